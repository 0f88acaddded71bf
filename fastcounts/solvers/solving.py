"""From counts to weights: the one entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastcounts.counts import Counts, from_mapping
from fastcounts.errors import AbsentClass
from fastcounts.messages import argument
from fastcounts.solvers.diagnosis import diagnose
from fastcounts.solvers.register import Scheme, describe_scheme
from fastcounts.solvers.tally import Tally
from fastcounts.weights import Floats, Weights, absent_policy, finish

__all__ = ["solve"]


def solve(
    counts: Counts | Mapping[int, int] | Mapping[str, int],
    scheme: str,
    *,
    normalize: str | None = None,
    cap: float | None = None,
    absent: str = "raise",
    num_classes: int | None = None,
    **options: Any,
) -> Weights:
    """Solve for weights, from counts.

    The order is fixed: raw values of the scheme, cap, normalisation, absent classes. The weights of
    classes with pixels do not depend on ``absent``.

    Parameters
    ----------
    counts : from :func:`fastcounts.count`, or the pixels of each class as a mapping, such as
        ``{0: 180, 1: 90}`` by label, or ``{"road": 180, "car": 90}`` by name for the labels 0, 1,
        ... in this order.  :meth:`fastcounts.Counts.from_pixels` makes counts with more.
    scheme : a name; ``fastcounts schemes`` lists them.
    normalize : which of ``"pixel_mean"``, ``"mean"``, ``"sum"``, ``"max"`` and ``"min"`` is made 1;
        None keeps the scale in which the scheme was published.
    cap : largest over smallest weight.
    absent : what a class without pixels gets: ``"raise"``, ``"max"``, ``"one"``, ``"zero"``,
        ``"smooth"``, ``"formula"`` or, for a bias, ``"mask"``; docs/weights.md defines them.
    num_classes : the classes are 0 to ``num_classes - 1``, seen or not; an ignored label among them
        weighs 0.
    options : of the scheme.

    Returns
    -------
    Weights : float64 values, one a class, with diagnostics.

    Raises
    ------
    UnknownScheme : no scheme of that name.
    OptionError : an option that the scheme does not have, or of a value that it cannot use.
    AbsentClass : a class without pixels, and ``absent="raise"``.
    PresenceNeeded : the scheme needs counts per image.
    SolveError : these counts have no such weights.

    Examples
    --------
    >>> import fastcounts as fc
    >>> counts = fc.Counts.from_pixels({0: 180, 1: 90, 2: 25, 3: 5})
    >>> fc.solve(counts, "inverse").values.tolist()
    [1.0, 2.0, 7.2, 36.0]
    >>> fc.solve({"road": 180, "car": 90}, "inverse").as_dict()
    {0: 1.0, 1: 2.0}
    >>> fc.solve(counts, "inverse", normalize="pixel_mean", cap=10).values.round(6).tolist()
    [0.508475, 1.016949, 3.661017, 5.084746]
    """
    record = describe_scheme(scheme)
    chosen = record.choose(options)
    if isinstance(counts, Mapping):
        counts = from_mapping(counts)
    tally = Tally.of(counts)
    if num_classes is not None:
        tally = tally.with_classes(num_classes)
    policy, amount = absent_policy(absent, record.kind)
    if not tally.classes:
        raise AbsentClass("no class has a pixel: count masks that hold some of the classes first")
    raw = record.values(tally, chosen)
    if policy == "smooth":
        raw = _smoothed(record, chosen, tally, raw, amount)
    if record.kind == "item":
        return _of_items(record, counts, tally, raw, chosen, (normalize, cap, absent))
    values = finish(
        raw,
        tally.pixels,
        kind=record.kind,
        cap=cap,
        absent=absent,
        normalize=normalize or record.published,
        classes=tally.called(),
        left_out=tally.left_out,
    )
    return Weights(
        values=values,
        labels=tally.labels,
        pixels=tally.pixels,
        kind=record.kind,
        scheme=record.name,
        options=chosen,
        normalize=normalize,
        cap=cap,
        absent=absent,
        names=tally.names,
        ignore=tuple(counts.options.ignore),
        diagnostics=diagnose(counts, tally, values, record, chosen),
        raw=raw,
        published=record.published,
        extends=not record.depends_on_classes(chosen),
    )


def _smoothed(
    record: Scheme, chosen: dict[str, Any], tally: Tally, raw: Floats, pixels: float
) -> Floats:
    """Replace the raw values of absent classes by those for a few pixels in one more image.

    The formula is evaluated again with these pixels, and compared with what it gives the rarest
    class with pixels: the ratio of weights, or the difference of biases, is kept.
    """
    absent = ~tally.present & ~tally.left_out
    if not absent.any():
        return raw
    seen = record.values(tally.smoothed(pixels), chosen)
    rarest = int(np.where(tally.present, tally.pixels, np.inf).argmin())
    values = raw.copy()
    if record.kind == "bias":
        values[absent] = raw[rarest] + (seen[absent] - seen[rarest])
    else:
        ratio = raw[rarest] / seen[rarest] if seen[rarest] > 0 else 1.0
        values[absent] = seen[absent] * ratio
    return values


def _of_items(
    record: Scheme,
    counts: Counts,
    tally: Tally,
    raw: Floats,
    chosen: dict[str, Any],
    convention: tuple[str | None, float | None, str],
) -> Weights:
    """One value an image, with the classes as they are seen when images are drawn so."""
    normalize, cap, absent = convention
    images = tally.images(record.name)
    values = finish(
        raw, images.sum(axis=1), kind="item", cap=cap, absent=absent, normalize=normalize
    )
    held = tally.present | tally.left_out
    if absent == "raise" and not held.all():
        missing = np.array(tally.called())[~held].tolist()
        raise AbsentClass(
            f"no pixels of class {', '.join(missing[:8])}: {argument('absent', 'zero')} "
            "leaves such classes out"
        )
    drawn = values @ images
    keys = counts.item_table.keys if counts.item_table is not None else []
    return Weights(
        values=values,
        labels=np.arange(len(values), dtype=np.int64),
        pixels=images.sum(axis=1),
        kind="item",
        scheme=record.name,
        options=chosen,
        absent=absent,
        names={place: f"{key.source} {key.item}" for place, key in enumerate(keys) if key.source},
        diagnostics={
            "labels": tally.labels,
            "class_share": {"before": tally.frequencies, "after": drawn / drawn.sum()},
        },
        raw=values,
        extends=False,
    )
