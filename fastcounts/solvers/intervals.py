"""Confidence intervals of weights, by drawing the images again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastcounts.errors import OptionError, SolveError
from fastcounts.solvers.options import number, whole
from fastcounts.solvers.register import describe_scheme
from fastcounts.solvers.tally import Tally
from fastcounts.weights import Floats, Integers, Labels, finish

if TYPE_CHECKING:
    from fastcounts.counts import Counts

__all__ = ["Intervals", "bootstrap"]


@dataclass(frozen=True)
class Intervals:
    """Bootstrap confidence intervals of weights.

    Attributes
    ----------
    labels : (K,) the classes.
    low, high : (K,) float64; infinite where too many replicates held no image of the class, or
        had no such weights.
    missing : (K,) share of the replicates without the class.
    level : of confidence.
    replicates : how many data sets were drawn.
    """

    labels: Labels
    low: Floats
    high: Floats
    missing: Floats
    level: float
    replicates: int


def bootstrap(
    counts: Counts,
    scheme: str,
    *,
    normalize: str | None = None,
    cap: float | None = None,
    level: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
    **options: Any,
) -> Intervals:
    """How far the weights would move if other images of the same kind had been labelled.

    Draws as many images as there are, with replacement, and solves again.

    Parameters
    ----------
    counts : with the table of items (``keep_items=True``).
    scheme, normalize, cap, options : as for :func:`solve`; a scheme of kind ``"weight"``.
    level : of confidence, between 0 and 1.
    replicates : how many times.
    seed : of the draws.

    Returns
    -------
    Intervals : percentiles, one pair a class.

    Raises
    ------
    PresenceNeeded : there is no table of items.
    OptionError : the scheme gives no weights, or an option is wrong.

    Notes
    -----
    Efron (1979). A class in ``df`` images is absent from about ``exp(-df)`` of the replicates, so
    that none in three images or fewer has a finite interval at 95 %.

    Examples
    --------
    >>> import numpy as np, fastcounts as fc
    >>> masks = np.array([[0, 0, 0, 1], [0, 0, 1, 1]], dtype=np.uint8)
    >>> counts = fc.count(masks, items=0, keep_items=True)
    >>> found = bootstrap(counts, "inverse", replicates=100)
    >>> found.low.round(3).tolist(), found.high.round(3).tolist()
    ([1.0, 1.0], [1.0, 3.0])
    """
    record = describe_scheme(scheme)
    chosen = record.choose(options)
    if record.kind != "weight":
        raise OptionError(f"{scheme} gives a {record.kind}: bootstrap a scheme that gives weights")
    edge = (1 - number("level", level, above=0, below=1)) / 2
    rounds = whole("replicates", replicates, 1)
    tally = Tally.of(counts)
    images = tally.images("bootstrap")
    voids = tally.images_of(list(tally.ignored))
    record.values(tally, chosen)  # what the counts themselves do not have is an error
    draw = np.random.default_rng(seed)
    found = np.empty((rounds, tally.labels.size))
    for row in found:
        again = _redrawn(tally, images, voids, draw.integers(len(images), size=len(images)))
        try:
            raw = record.values(again, chosen)
            row[:] = finish(
                raw, again.pixels, cap=cap, absent="zero", normalize=normalize or record.published
            )
        except SolveError:  # these images have no such weights
            row[:] = np.inf
        row[~again.present] = np.inf
    bounds = np.quantile(found, [edge, 1 - edge], axis=0, method="inverted_cdf")
    return Intervals(
        tally.labels, bounds[0], bounds[1], np.isinf(found).mean(axis=0), level, rounds
    )


def _redrawn(tally: Tally, images: Integers, voids: Integers, drawn: npt.NDArray[np.intp]) -> Tally:
    """Statistics of the data set of the images that were drawn."""
    times = np.bincount(drawn, minlength=len(images))
    held, void = images > 0, voids > 0
    inside = images.sum(axis=1)
    total = inside + voids.sum(axis=1)
    return replace(
        tally,
        pixels=images.T @ times,
        items=len(drawn),
        presence=held.T @ times,
        presence_pixels=held.T @ (inside * times),
        presence_pixels_total=held.T @ (total * times),
        ignored=dict(
            zip(
                tally.ignored,
                zip((voids.T @ times).tolist(), (void.T @ (total * times)).tolist(), strict=True),
                strict=True,
            )
        ),
        drawn=drawn,
    )
