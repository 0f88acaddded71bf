"""What weights do: to the cost of constant answers, the noise and scale of the gradient, the prior.

Everything here is arithmetic on the pixels ``n`` of each class and the weights ``w``. Costs are
cross entropies in nats. A constant predictor of class i costs ``right`` on the pixels of class i
and ``wrong`` on all others, so its mean cost is ``wrong - (wrong - right) * share[i]``, where
``share`` is the part of the weighted pixels that class i has: the cost is the same for all i where
the share is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from fastcounts.errors import OptionError, PresenceNeeded, SolveError
from fastcounts.messages import argument
from fastcounts.weights import pixels_and_values

if TYPE_CHECKING:
    from fastcounts.counts import Counts

__all__ = [
    "KERAS_CLIP",
    "Advice",
    "ConstantPredictors",
    "advise",
    "constant_predictors",
    "costs_of_shares",
    "describe",
    "effective_images",
    "effective_sample_size",
    "entropy_ratio",
    "expected_share",
    "flags",
    "gradient_noise",
    "log_weight_errors",
    "mean_share",
    "of_images",
    "variance_blow_up",
]

Floats = npt.NDArray[np.float64]

KERAS_CLIP = 1e-7
"""Keras clips probabilities to [1e-7, 1 - 1e-7] before it takes the logarithm."""
FEW_IMAGES = 5
"""A class in fewer images than this has no weight that can be relied on (rule of thumb)."""
FEW_EFFECTIVE_IMAGES = 3
WIDE_RATIO, VERY_WIDE_RATIO = 100, 1000
HALF_PRECISION_MAX = 65504
"""Largest finite number of float16."""
EVEN_RATIO = 2.0
"""Classes within this factor of each other need no weights (rule of thumb)."""
FIRST_CAP = 10.0
"""The cap to start from (rule of thumb).

Weights of a ratio R leave a share of ``4 R / (1 + R)**2`` of the pixels in effect or more if pixels
are independent (Kish): 33 % for 10. That is no bound on the noise of the gradient, which depends
on images: see :func:`gradient_noise`.
"""


@dataclass(frozen=True)
class ConstantPredictors:
    """Mean cost of always answering class i, for every i, before and after weighting.

    Attributes
    ----------
    predictor : how sure the answer is: ``"eps=0.01"``, or ``"Keras clip"`` for a hard 0 or 1.
    right, wrong : cost of one pixel that is of the answered class, and of one that is not, in nats.
    before : (K,) mean cost without weights, the same under both reductions.
    by_pixels : (K,) with weights, the sum over the data set divided by its pixels without the
        ignored ones. A loss that divides every batch by all its pixels, ignored ones included, has
        this cost times the share of the pixels that are not ignored.
    by_weights : (K,) with weights, the sum divided by the sum of the weights (torch ``"mean"``).
    """

    predictor: str
    right: float
    wrong: float
    before: Floats
    by_pixels: Floats
    by_weights: Floats


def constant_predictors(
    pixels: npt.ArrayLike, weights: npt.ArrayLike, *, eps: float | None = 0.01
) -> ConstantPredictors:
    """Cost of every constant predictor, the table that proves equal cost.

    Parameters
    ----------
    pixels : (K,) pixels of each class, ignored ones left out.
    weights : (K,) nonnegative.
    eps : probability that the predictor leaves to the other classes in equal parts; None for a
        hard answer as Keras clips it.

    Returns
    -------
    ConstantPredictors

    Raises
    ------
    OptionError : eps is not between 0 and 1.
    SolveError : no class has both pixels and a weight.

    Examples
    --------
    >>> table = constant_predictors([180, 90, 25, 5], [1, 2, 7.2, 36])
    >>> table.before.round(6).tolist()
    [2.287543, 3.995663, 5.229305, 5.608887]
    >>> table.by_pixels.round(6).tolist()
    [10.272839, 10.272839, 10.272839, 10.272839]
    >>> table.by_weights.round(6).tolist()
    [4.280349, 4.280349, 4.280349, 4.280349]
    """
    share, mean = _share_and_mean(pixels, weights)
    frequency, _ = _share_and_mean(pixels, np.ones(share.shape))
    right, wrong = _answer_costs(share.size, eps)
    after = costs_of_shares(share, eps=eps)
    return ConstantPredictors(
        predictor="Keras clip" if eps is None else f"eps={eps:g}",
        right=right,
        wrong=wrong,
        before=costs_of_shares(frequency, eps=eps),
        by_pixels=after * mean,
        by_weights=after,
    )


def costs_of_shares(share: npt.ArrayLike, *, eps: float | None = 0.01) -> Floats:
    """Cost of every constant predictor where the loss is divided by weights: a line in its share.

    Parameters
    ----------
    share : (K,) part of the weighted pixels that each class has.
    eps : see :func:`constant_predictors`.

    Examples
    --------
    >>> costs_of_shares([0.25] * 4).round(6).tolist()
    [4.280349, 4.280349, 4.280349, 4.280349]
    """
    shares = np.asarray(share, dtype=np.float64)
    right, wrong = _answer_costs(shares.size, eps)
    return np.asarray(wrong - (wrong - right) * shares)


def _answer_costs(classes: int, eps: float | None) -> tuple[float, float]:
    """Cost of one pixel answered rightly, and wrongly."""
    if eps is None:
        return -math.log1p(-KERAS_CLIP), -math.log(KERAS_CLIP)
    if not 0 < eps < 1:
        raise OptionError(f"{argument('eps', eps)}: give a number between 0 and 1")
    return -math.log1p(-eps), -math.log(eps / max(classes - 1, 1))


def _share_and_mean(pixels: npt.ArrayLike, weights: npt.ArrayLike) -> tuple[Floats, float]:
    """Share of each class in the weighted pixels, and the mean weight of a pixel."""
    counts, values = pixels_and_values(pixels, weights, "weights")
    total = sum(counts.tolist())
    mass = counts / max(float(total), 1.0) * values
    mean = float(mass.sum())
    if not (mean > 0 and math.isfinite(mean)):
        raise SolveError("no class has both pixels and a weight above zero: there is no cost")
    return mass / mean, mean


def variance_blow_up(pixels: npt.ArrayLike, weights: npt.ArrayLike) -> float:
    """Factor by which weights raise the variance of the mean gradient: 1 + CV(w) squared.

    For independent pixels whose gradients have the same norm in every class. The pixels of an image
    are not independent: measured variances between images were two to four times larger. With the
    table of items use :func:`gradient_noise`.

    Parameters
    ----------
    pixels, weights : (K,) pixels and weight of each class.

    Returns
    -------
    1 without weights, more with any others.

    Notes
    -----
    Kish (1965), Survey Sampling: the loss of precision through weighting.

    Examples
    --------
    >>> round(variance_blow_up([180, 90, 25, 5], [1, 2, 7.2, 36]), 6)
    4.8125
    """
    share, mean = _share_and_mean(pixels, weights)
    return float((share * np.asarray(weights, dtype=np.float64)).sum() / mean)


def effective_sample_size(pixels: npt.ArrayLike, weights: npt.ArrayLike) -> float:
    """Unweighted pixels that would carry as much: ``sum(n w)**2 / sum(n w**2)``.

    If pixels were independent; see :func:`variance_blow_up`.

    Parameters
    ----------
    pixels, weights : (K,) pixels and weight of each class.

    Returns
    -------
    Pixels, at most the sum of ``pixels``.

    Notes
    -----
    Kish (1965). For weights ``1 / n`` it is K times the harmonic mean of n.

    Examples
    --------
    >>> round(effective_sample_size([180, 90, 25, 5], [1, 2, 7.2, 36]), 6)
    62.337662
    """
    total = sum(int(count) for count in np.asarray(pixels))
    return total / variance_blow_up(pixels, weights)


def entropy_ratio(prior: npt.ArrayLike) -> float:
    """Entropy of a class prior over that of the uniform one: 1 is uniform, 0 is one class.

    Parameters
    ----------
    prior : (K,) nonnegative, of sum 1.

    Examples
    --------
    >>> round(entropy_ratio([0.6, 0.3, 25 / 300, 5 / 300]), 3)
    0.68
    """
    shares = np.asarray(prior, dtype=np.float64)
    return 1.0 if shares.size < 2 else _entropy(shares) / math.log(shares.size)


def _entropy(prior: Floats) -> float:
    """Entropy in nats."""
    held = prior[prior > 0]
    return float(-(held * np.log(held)).sum()) + 0.0


def describe(pixels: npt.ArrayLike, weights: npt.ArrayLike) -> dict[str, Any]:
    """All diagnostics that need nothing but the counts and the weights.

    Parameters
    ----------
    pixels, weights : (K,) pixels and weight of each class.

    Returns
    -------
    dict with ``pixel_mean`` (what the weights multiply the loss by where it is divided by the
    pixels), ``ratio`` (largest over smallest weight of a class with pixels; infinity where one is
    0), ``effective_sample_size``, ``effective_share`` (of all pixels) and ``variance_blow_up`` (all
    three as if pixels were independent), ``implied_prior``, ``entropy_ratio`` (of the prior,
    ``before`` and ``after``), ``best_constant_loss`` (``before`` and ``after``: the least that a
    predictor costs that never looks at the image), ``cost_ratio`` (``before`` and ``after``: the
    dearest constant answer over the cheapest, of classes with pixels), ``constant_predictors`` (a
    list of tables).

    Raises
    ------
    SolveError : no class has both pixels and a weight.

    Examples
    --------
    >>> found = describe([180, 90, 25, 5], [1, 2, 7.2, 36])
    >>> found["pixel_mean"], found["ratio"], round(found["variance_blow_up"], 6)
    (2.4, 36.0, 4.8125)
    """
    counts, values = np.asarray(pixels), np.asarray(weights, dtype=np.float64)
    share, mean = _share_and_mean(counts, values)
    frequency, _ = _share_and_mean(counts, np.ones(values.shape))
    seen = counts > 0
    held = values[seen]
    blow_up = variance_blow_up(counts, values)
    smallest = float(held.min())
    return {
        "pixels": counts,
        "pixel_mean": mean,
        "ratio": float(held.max()) / smallest if smallest > 0 else math.inf,
        "effective_sample_size": effective_sample_size(counts, values),
        "effective_share": 1 / blow_up,
        "variance_blow_up": blow_up,
        "implied_prior": share,
        "entropy_ratio": {"before": entropy_ratio(frequency), "after": entropy_ratio(share)},
        "best_constant_loss": {"before": _entropy(frequency), "after": _entropy(share)},
        "cost_ratio": {
            "before": _cost_ratio(frequency, seen),
            "after": _cost_ratio(share, seen),
        },
        "constant_predictors": [
            _table(constant_predictors(counts, values, eps=eps)) for eps in (0.01, None)
        ],
    }


def _cost_ratio(share: Floats, seen: npt.NDArray[np.bool_]) -> float:
    """Dearest over cheapest constant answer of a class with pixels, at 99 %."""
    costs = costs_of_shares(share)[seen]
    return float(costs.max() / costs.min())


def _table(predictors: ConstantPredictors) -> Mapping[str, Any]:
    return asdict(predictors)


def _entries(
    counts: Counts, what: str
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats]:
    """Row, column and pixels of every class in every image that holds it."""
    table = counts.item_table
    if table is None or not len(table):
        raise PresenceNeeded(
            f"{what} needs the pixels of every class in every image: count with "
            f"{argument('items')} "
            f"(an axis number or 'file') and {argument('keep_items', True)}"
        )
    rows = np.repeat(np.arange(len(table)), np.diff(table.offsets))
    wanted = table.labels.astype(counts.labels.dtype)
    columns = np.minimum(np.searchsorted(counts.labels, wanted), max(counts.labels.size - 1, 0))
    keep = (counts.labels[columns] == wanted) & (table.pixels > 0)
    return rows[keep], columns[keep], table.pixels[keep].astype(np.float64)


def effective_images(counts: Counts) -> Floats:
    """Images that carry each class: ``n**2 / sum over images of n_i**2``.

    Parameters
    ----------
    counts : with the table of items (``keep_items=True``).

    Returns
    -------
    (K,) float64: 1 where one image holds all pixels of the class, 0 for an absent one.

    Raises
    ------
    PresenceNeeded : there is no table of items.

    Examples
    --------
    >>> import numpy as np, fastcounts as fc
    >>> masks = np.array([[0, 0, 0, 1], [0, 0, 1, 1]], dtype=np.uint8)
    >>> counts = fc.count(masks, items=0, keep_items=True)
    >>> effective_images(counts).round(3).tolist()
    [1.923, 1.8]
    """
    _, columns, pixels = _entries(counts, "effective_images")
    size = counts.labels.size
    summed = np.bincount(columns, pixels, size)
    squares = np.bincount(columns, pixels**2, size)
    found = np.zeros(size)
    np.divide(summed**2, squares, out=found, where=squares > 0)
    return found


def gradient_noise(counts: Counts, weights: npt.ArrayLike) -> float:
    """Return the factor by which weights raise the variance of the gradient between images.

    ``sum over images of |w n_b - mean|**2 / sum over images of |n_b - mean|**2``, with ``n_b`` the
    pixels of each class in image b and ``w`` scaled to a mean of 1 over all pixels. It is the ratio
    of the variances at initialisation if the mean gradients of the classes have equal norms and
    right angles. In softmax models with random features it was within 12 % of the measured ratio;
    with a random ReLU layer before it, at most 50 % above.

    Parameters
    ----------
    counts : with the table of items (``keep_items=True``), of two images or more.
    weights : (K,) nonnegative, in the order of ``counts.labels``; their scale makes no difference.

    Returns
    -------
    1 without weights.

    Raises
    ------
    PresenceNeeded : there is no table of two items or more, or all items have the same counts.
    SolveError : no class has both pixels and a weight.

    Examples
    --------
    >>> import numpy as np, fastcounts as fc
    >>> masks = np.array([[0, 0, 0, 1], [0, 0, 1, 1]], dtype=np.uint8)
    >>> counts = fc.count(masks, items=0, keep_items=True)
    >>> round(gradient_noise(counts, [1, 3]), 3)
    1.633
    """
    _, columns, pixels = _entries(counts, "gradient_noise")
    images = len(counts.item_table or ())
    _, values = pixels_and_values(counts.pixels, weights, "weights")
    _, mean = _share_and_mean(counts.pixels, values)
    size = counts.labels.size
    summed = np.bincount(columns, pixels, size)
    spread = np.maximum(np.bincount(columns, pixels**2, size) - summed**2 / images, 0)
    if images < 2 or not spread.sum() > 1e-12 * (summed**2).sum():
        raise PresenceNeeded(
            "gradient_noise compares images, and these have all the same counts: count two images "
            "or more that differ"
        )
    return float(((values / mean) ** 2 * spread).sum() / spread.sum())


def log_weight_errors(counts: Counts, reference: int | None = None) -> Floats:
    """Estimate the standard error of ``ln(n_reference / n_c)``, a logarithmic weight.

    Images are the sample, not pixels. Delta method::

        SE**2 = B / (B - 1) * (G_aa / n_a**2 - 2 G_ac / (n_a n_c) + G_cc / n_c**2),
        G = sum over images of n_i n_i'

    Parameters
    ----------
    counts : with the table of items (``keep_items=True``), of two images or more.
    reference : label that the weights are relative to; the largest class by default.

    Returns
    -------
    (K,) float64: 0 for the reference, NaN for an absent class.

    Raises
    ------
    PresenceNeeded : there is no table of two items or more.
    OptionError : the reference is no class with pixels.

    Examples
    --------
    >>> import numpy as np, fastcounts as fc
    >>> masks = np.array([[0, 0, 0, 1], [0, 0, 1, 1]], dtype=np.uint8)
    >>> counts = fc.count(masks, items=0, keep_items=True)
    >>> log_weight_errors(counts).round(3).tolist()
    [0.0, 0.533]
    """
    rows, columns, pixels = _entries(counts, "log_weight_errors")
    images = len(counts.item_table or ())
    if images < 2:
        raise PresenceNeeded("a standard error needs two images or more: one was counted")
    size = counts.labels.size
    summed = np.bincount(columns, pixels, size)
    base = _reference(counts, reference, summed)
    of_base = np.zeros(images)
    of_base[rows[columns == base]] = pixels[columns == base]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = pixels / summed[columns]
        squares = np.bincount(columns, share**2, size)
        cross = np.bincount(columns, share * of_base[rows] / summed[base], size)
        variance = images / (images - 1) * (squares[base] - 2 * cross + squares)
        return np.where(summed > 0, np.sqrt(np.maximum(variance, 0)), np.nan)


def _reference(counts: Counts, reference: int | None, summed: npt.NDArray[Any]) -> int:
    if reference is None:
        return int(summed.argmax())
    places = np.flatnonzero(counts.labels == reference)
    if not places.size or not summed[places[0]] > 0:
        raise OptionError(f"reference={reference!r}: give the label of a class that has pixels")
    return int(places[0])


def expected_share(
    counts: Counts,
    weights: npt.ArrayLike,
    *,
    batch_size: int = 1,
    batches: int = 2000,
    seed: int = 0,
) -> Floats:
    """Mean share of each class in the loss of a batch that is divided by its own weights.

    That is what ``reduction="mean"`` of torch does. Constant answers cost the same in the mean
    over an epoch where these shares are equal, which weights ``1 / n`` reach in large batches only.

    Parameters
    ----------
    counts : with the table of items (``keep_items=True``).
    weights : (K,) in the order of ``counts.labels``.
    batch_size : images in a batch. Batches of one image are computed exactly, others drawn.
    batches : how many are drawn.
    seed : of the draws.

    Returns
    -------
    (K,) float64 of sum 1.

    Raises
    ------
    PresenceNeeded : there is no table of items.
    OptionError : a batch of no image, or of more than there are.

    Examples
    --------
    >>> import numpy as np, fastcounts as fc
    >>> masks = np.array([[0, 0, 0, 1], [0, 0, 1, 1]], dtype=np.uint8)
    >>> counts = fc.count(masks, items=0, keep_items=True)
    >>> expected_share(counts, fc.solve(counts, "equal_cost").values).round(3).tolist()
    [0.509, 0.491]
    """
    _entries(counts, "expected_share")
    table = counts.item_table
    assert table is not None
    images = len(table)
    if isinstance(batch_size, bool) or not 1 <= batch_size <= images:
        raise OptionError(f"batch_size={batch_size!r}: give 1 to {images}, the images there are")
    _, values = pixels_and_values(counts.pixels, weights, "weights")
    pixels = table.dense(counts.labels.tolist())
    if batch_size > 1:
        draw = np.random.default_rng(seed)
        chosen = [draw.choice(images, batch_size, replace=False) for _ in range(batches)]
        pixels = np.array([pixels[rows].sum(axis=0) for rows in chosen])
    return mean_share(pixels, values)


def mean_share(pixels: npt.NDArray[np.int64], weights: Floats) -> Floats:
    """Mean share of each class in batches that are each divided by their own weights.

    Parameters
    ----------
    pixels : (batches, K) pixels of each class.
    weights : (K,) nonnegative.

    Raises
    ------
    SolveError : no batch has pixels with a weight.

    Examples
    --------
    >>> mean_share(np.array([[60, 30, 10, 0], [80, 20, 0, 0]]), np.ones(4)).round(6).tolist()
    [0.7, 0.25, 0.05, 0.0]
    """
    mass = pixels * weights
    mass = mass[mass.sum(axis=1) > 0]
    if not mass.size:
        raise SolveError("no image has both pixels and a weight above zero: there is no share")
    return np.asarray((mass / mass.sum(axis=1, keepdims=True)).mean(axis=0))


def flags(counts: Counts, weights: npt.ArrayLike) -> list[dict[str, Any]]:
    """List what a user should know before training with these weights.

    Parameters
    ----------
    counts : the classes; presence and the table of items are used where they are there.
    weights : (K,) in the order of ``counts.labels``.

    Returns
    -------
    list of ``{"flag", "labels", "message"}``. The bounds are rules of thumb.

    Examples
    --------
    >>> import fastcounts as fc
    >>> counts = fc.Counts.from_pixels({0: 100_000, 1: 20})
    >>> [found["flag"] for found in flags(counts, [1, 5000])]
    ['ratio']
    """
    _, values = pixels_and_values(counts.pixels, weights, "weights")
    found = [
        *flags_of_unexpected(counts),
        *_flags_of_values(counts, values),
        *_flags_of_images(counts),
    ]
    if reason := counts.incomplete:
        message = f"the counts are not whole: {reason}"
        found.append({"flag": "incomplete", "labels": [], "message": message})
    return found


def _flag(counts: Counts, name: str, which: npt.NDArray[np.bool_], message: str) -> dict[str, Any]:
    """Flag of some classes, which the message names first."""
    labels = counts.labels[which].tolist()
    names = counts.names
    called = [f"{label} ({names[label]})" if label in names else str(label) for label in labels]
    some = ", ".join(called[:8]) + (f" and {len(called) - 8} more" if len(called) > 8 else "")
    each = "class" if len(labels) == 1 else "classes"
    return {"flag": name, "labels": labels, "message": f"{each} {some}: {message}"}


def flags_of_unexpected(counts: Counts) -> list[dict[str, Any]]:
    """Return the flag of pixels whose labels belong to no class, which weights know nothing of."""
    pixels = counts.ledger.unexpected_pixels
    if not pixels:
        return []
    labels = list(counts.ledger.unexpected)
    some = ", ".join(map(str, labels[:8])) + (f" and {len(labels) - 8} more" if labels[8:] else "")
    share = pixels / (pixels + counts.ledger.counted)
    message = (
        f"{pixels:,} pixels ({share:.3g} of those with a label) have labels that belong to no "
        f"class: {some}; the weights do not take them into account. Count again with these labels "
        "in classes, or in ignore if the loss ignores them"
    )
    return [{"flag": "unexpected", "labels": labels, "message": message}]


def _flags_of_values(counts: Counts, values: Floats) -> list[dict[str, Any]]:
    found = []
    held = values[counts.pixels > 0]
    low, high = (float(held.min()), float(held.max())) if held.size else (1.0, 1.0)
    if 0 < low * WIDE_RATIO < high:
        much = "far " if high > VERY_WIDE_RATIO * low else ""
        found.append(
            _flag(
                counts,
                "ratio",
                values == high,
                f"the largest weight is {high / low:.0f} times the smallest, {much}more than "
                f"{WIDE_RATIO}: a few pixels steer the gradient; a cap of 10 is a start",
            )
        )
    if (idle := (counts.pixels > 0) & (values == 0)).any():
        message = "has pixels and weighs 0: nothing is learned from it"
        if high == 0:
            message = "all weights are 0, and so is the loss: take another scheme"
        found.append(_flag(counts, "zero", idle, message))
    if values.size and values.max() > HALF_PRECISION_MAX:
        found.append(
            _flag(
                counts,
                "float16",
                values > HALF_PRECISION_MAX,
                f"weights above {HALF_PRECISION_MAX} are infinite in float16: make the largest 1 "
                "(normalize: max), or give a cap",
            )
        )
    return found


def _flags_of_images(counts: Counts) -> list[dict[str, Any]]:
    if not _knows_presence(counts):
        return []
    found = []
    present = counts.pixels > 0
    rare = present & (counts.presence < FEW_IMAGES)
    if counts.item_table is not None:
        rare |= present & (effective_images(counts) < FEW_EFFECTIVE_IMAGES)
    if rare.any():
        found.append(
            _flag(
                counts,
                "few_images",
                rare,
                f"seen in fewer than {FEW_IMAGES} images, or nearly all of it in fewer than "
                f"{FEW_EFFECTIVE_IMAGES}: its weight is a guess; fold the class into another, "
                "ignore it, or label more",
            )
        )
    seldom = present & (counts.presence * np.count_nonzero(present) < counts.items)
    if seldom.any():
        found.append(
            _flag(
                counts,
                "batch_share",
                seldom,
                "in fewer than 1 / K of the images: under torch's reduction='mean' in small "
                "batches no weight gives the class its share; divide by all pixels of the batch, "
                "as format torch prints it",
            )
        )
    return found


def _knows_presence(counts: Counts) -> bool:
    """Whether the counts say in how many of several images each class is."""
    return counts.items >= 2 and bool((counts.presence[counts.pixels > 0] > 0).all())


def of_images(counts: Counts, weights: npt.ArrayLike | None = None) -> dict[str, Any]:
    """Diagnostics that need presence or the table of items, and what is missing for the others.

    Parameters
    ----------
    counts : the classes.
    weights : (K,) in the order of ``counts.labels``, for ``gradient_noise``; None if all are 0.

    Returns
    -------
    dict with ``presence_share``, ``effective_images`` and ``log_weight_errors``, (K,) float64 each,
    and ``gradient_noise``, a number, where they can be had; ``missing`` says what the others need.
    """
    found: dict[str, Any] = {}
    missing: dict[str, str] = {}
    if _knows_presence(counts):
        found["presence_share"] = counts.presence / counts.items
    else:
        missing["presence_share"] = (
            "count with items= (an axis number or 'file'), or give items= and presence= to "
            "Counts.from_pixels"
        )
    for name, function in (
        ("effective_images", effective_images),
        ("log_weight_errors", log_weight_errors),
    ):
        try:
            found[name] = function(counts)
        except PresenceNeeded as reason:
            missing[name] = str(reason)
    if weights is not None:
        try:
            found["gradient_noise"] = gradient_noise(counts, weights)
        except PresenceNeeded as reason:
            missing["gradient_noise"] = str(reason)
    return found | {"missing": missing}


@dataclass(frozen=True)
class Advice:
    """A scheme to begin with, in plain words.

    Attributes
    ----------
    scheme, options, normalize, cap : arguments for :func:`fastcounts.solve`.
    post_hoc : train without weights and add ``ln w`` to the logits instead.
    reasons : why, with the figures of these counts.
    evidence : what it rests on: theory, published experiments, practice or rules of thumb.
    """

    scheme: str
    options: Mapping[str, Any]
    normalize: str | None
    cap: float | None
    post_hoc: bool
    reasons: tuple[str, ...]
    evidence: str

    def __str__(self) -> str:
        cap = "" if self.cap is None else f", cap={self.cap:g}"
        scale = "" if self.normalize is None else f", normalize={self.normalize!r}"
        call = f"fc.solve(counts, {self.scheme!r}{scale}{cap})"
        return "\n".join([call, *(f"- {reason}" for reason in self.reasons), self.evidence])


def advise(
    counts: Counts, metric: Literal["miou", "balanced_accuracy", "calibration"] = "miou"
) -> Advice:
    """Recommend a scheme and a cap for the metric that the model is judged by.

    Parameters
    ----------
    counts : the classes.
    metric : ``"calibration"`` for probabilities that are right, or pixel accuracy;
        ``"balanced_accuracy"`` for the mean recall; ``"miou"``.

    Returns
    -------
    Advice : print it.

    Raises
    ------
    OptionError : another metric.
    SolveError : no class has pixels.

    Examples
    --------
    >>> import fastcounts as fc
    >>> counts = fc.Counts.from_pixels({0: 600, 1: 300, 2: 99, 3: 1})
    >>> print(str(advise(counts, "calibration")).splitlines()[0])
    fc.solve(counts, 'uniform')
    """
    held = counts.pixels[counts.pixels > 0]
    if not held.size:
        raise SolveError("no class has a pixel: there is nothing to advise on")
    if metric == "calibration":
        advice = _advise_no_weights()
    elif metric == "balanced_accuracy":
        advice = _advise_equal_cost(counts)
    elif metric == "miou":
        advice = _advise_capped(counts)
    else:
        raise OptionError(f"metric={metric!r}: give miou, balanced_accuracy or calibration")
    more = [found["message"] for found in _flags_of_images(counts) if found["flag"] == "few_images"]
    absent = counts.labels[counts.pixels == 0].tolist()
    if absent:
        more.append(
            f"classes {absent} have no pixels: add absent='zero' for classes that never occur, "
            "absent='max' for those that may"
        )
    return Advice(**{**vars(advice), "reasons": (*advice.reasons, *more)})


def _advise_no_weights() -> Advice:
    return Advice(
        scheme="uniform",
        options={},
        normalize=None,
        cap=None,
        post_hoc=False,
        reasons=("without weights probabilities come out right; weights exaggerate rare classes",),
        evidence="Evidence: theory (proper scoring rules), and experiments "
        "(van den Goorbergh et al. 2022). Strong.",
    )


def _advise_equal_cost(counts: Counts) -> Advice:
    held = counts.pixels[counts.pixels > 0]
    ratio = float(held.max() / held.min())
    return Advice(
        scheme="equal_cost",
        options={},
        normalize="pixel_mean",
        cap=None,
        post_hoc=True,
        reasons=(
            "the mean recall is best under equal class priors, and these weights give them",
            "first try ln w added to the logits of a model trained without weights: it is free",
            f"in the loss the weights span 1 to {ratio:.3g}; {_price(counts, math.inf)}",
        ),
        evidence="Evidence: theory with unlimited data (Elkan 2001, Menon et al. 2021); large "
        "networks that fit their data come to ignore weights (Byrd and Lipton 2019). Good.",
    )


def _advise_capped(counts: Counts) -> Advice:
    held = counts.pixels[counts.pixels > 0]
    ratio = float(held.max() / held.min())
    if ratio <= EVEN_RATIO:
        return _advise_nothing(ratio)
    return Advice(
        scheme="inverse",
        options={},
        normalize="pixel_mean",
        cap=FIRST_CAP,
        post_hoc=False,
        reasons=(
            "mIoU punishes false positives, so full inverse frequency often loses: be mild",
            f"under a cap of {FIRST_CAP:g} {_price(counts, FIRST_CAP)}",
            f"without a cap {_price(counts, math.inf)}",
            "compare with no weights and with 'enet' on a validation set before believing any",
        ),
        evidence="Evidence: reports from practice and a rule of thumb for the cap. Weak.",
    )


def _advise_nothing(ratio: float) -> Advice:
    return Advice(
        scheme="uniform",
        options={},
        normalize=None,
        cap=None,
        post_hoc=False,
        reasons=(
            f"the largest class has {ratio:.3g} times the pixels of the smallest: even enough",
        ),
        evidence="Evidence: a rule of thumb. Weak, and so is what weights would change.",
    )


def _price(counts: Counts, cap: float) -> str:
    """Say what capped inverse frequency does to the noise of the gradient."""
    present = counts.pixels > 0
    weights = np.zeros(present.shape)
    weights[present] = np.minimum(counts.pixels.max() / counts.pixels[present], cap)
    try:
        noise = gradient_noise(counts, weights)
    except PresenceNeeded:
        kept = 1 / variance_blow_up(counts.pixels, weights)
        return (
            f"{kept:.1%} of the pixels would be in effect if pixels were independent; images are "
            "not, and the gradient is noisier: count with items= and keep_items=True to know"
        )
    return f"the variance of the gradient between images is {noise:.3g} times that without weights"
