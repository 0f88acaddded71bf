"""Confidence intervals of weights: how far other images of the same kind would move them.

Images are the sample, not pixels. The classes are those of the counts in every sample: a class that
no image of a sample contains stays a class, with the limit of the formula, and its part in the
scale stays what it is in the counts. Otherwise a rare class would move the weights of all others.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from fastcounts.errors import MissingExtra, OptionError, PresenceNeeded, SolveError
from fastcounts.solvers.options import choice, number, whole
from fastcounts.solvers.register import Scheme, describe_scheme
from fastcounts.solvers.shares import log_weight_influence
from fastcounts.solvers.tally import Tally
from fastcounts.weights import Floats, Labels, finish, scale_of

if TYPE_CHECKING:
    from fastcounts.counts import Counts

__all__ = ["Intervals", "bootstrap"]

STEP = 1e-5
"""Relative step of the central differences: the error is of order STEP**2, and of 1e-16 / STEP."""
VANISHING = (1e-200, 1e-100)
"""Factors by which the images with a class are weighted for the limit of no such image. A value is
finite in the limit if it is the same for both."""
FEW_FOR_PERCENTILES = 15
"""Percentiles over data sets that are drawn again cover too little for classes in so few images."""
DRAWN_AT_ONCE = 2**24
"""Multiplicities of images that are held in memory at once: 128 MiB of float64."""


@dataclass(frozen=True)
class Intervals:
    """Confidence intervals of weights.

    Attributes
    ----------
    labels : (K,) the classes.
    low, high : (K,) float64. ``high`` is infinite where the images do not bound the weight.
    missing : (K,) probability that images drawn again do not contain the class, or share of the
        replicates without it (or without any such weights).
    level : of confidence.
    replicates : how many data sets were drawn; 0 where none were.
    method : ``"t"`` or ``"percentile"``.
    errors : (K,) standard errors of the logarithms of the weights before the cap, NaN for an absent
        class; None for ``method="percentile"``.
    images : (K,) int64, images that contain the class.
    approximate : (K,) bool, the interval may contain the truth less often than ``level`` says: all
        classes under ``median_frequency``, and under the normalisations to the largest or smallest
        weight if two classes may have it; a class at the cap in one part of its interval and below
        it in another; for ``method="percentile"``, a class in 15 images or fewer.
    """

    labels: Labels
    low: Floats
    high: Floats
    missing: Floats
    level: float
    replicates: int
    method: str
    errors: Floats | None
    images: npt.NDArray[np.int64]
    approximate: npt.NDArray[np.bool_]


def bootstrap(
    counts: Counts,
    scheme: str,
    *,
    normalize: str | None = None,
    cap: float | None = None,
    level: float = 0.95,
    method: Literal["t", "percentile"] = "t",
    replicates: int = 1000,
    seed: int = 0,
    **options: Any,
) -> Intervals:
    """Return how far the weights would move if other images of the same kind had been labelled.

    Parameters
    ----------
    counts : with the table of items (``keep_items=True``).
    scheme, normalize, cap, options : as for :func:`solve`; a scheme of kind ``"weight"``.
    level : of confidence, between 0 and 1.
    method : ``"t"`` computes ``exp(ln w +- t(df - 1) SE)`` without drawing anything: ``SE`` is the
        standard error of ``ln w`` by the infinitesimal jackknife over the images, and ``df`` the
        number of images that contain the class. ``"percentile"`` draws as many images as there are,
        with replacement, and solves again.
    replicates, seed : how many data sets ``"percentile"`` draws, and the seed of the draws; ``"t"``
        draws for the standard errors of ``median_frequency`` only, which is not differentiable.

    Returns
    -------
    Intervals : one pair per class.

    Raises
    ------
    PresenceNeeded : there is no table of items, or one of a single item.
    OptionError : the scheme gives no weights, or an option is wrong.
    SolveError : these counts have no such weights.
    MissingExtra : ``method="t"`` and SciPy is not installed.

    Notes
    -----
    No end lies beyond what the formula gives a class that no image contains, or that covers all
    pixels: under ENet 50.5 and 1.42. A class in one image, or in none, has no standard error, and
    gets that whole range. The scale (``normalize``) has an interval of its own, which is combined
    with that of the raw weight by MOVER: what of it is in proportion to the error of the raw weight
    adds to that error, and the rest is independent, so that an interval of a higher level contains
    those of lower ones. The scale of ``1 / n`` of pixel mean 1 is exact. The cap applies to both
    ends.

    In simulations with classes in 2 to 60 images on average, intervals of 95 % by ``"t"`` contained
    the weight of the population in 94 to 99 % of the cases; percentiles did so in 80 to 89 % for
    classes in 2 to 15 images (a class in ``df`` images is absent from about ``exp(-df)`` of the
    replicates). The class that sets the scale, the largest one under ``inverse``, has an interval
    of width zero, and so has a class at a floor of the formula (``log_inverse``). ``approximate``
    marks the intervals that may cover less: under ``median_frequency``, where the class in the
    middle differs between samples, those of 95 % covered 39 % for the background.

    Efron (1979, 1982) for the bootstrap and the infinitesimal jackknife; Zou (2008), Statistics in
    Medicine 27, 1693-1702, for MOVER.

    Examples
    --------
    >>> import numpy as np, fastcounts as fc
    >>> masks = np.array([[0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1]], dtype=np.uint8)
    >>> counts = fc.count(masks, items=0, keep_items=True)
    >>> found = bootstrap(counts, "inverse")
    >>> found.low.round(2).tolist(), found.high.round(2).tolist()
    ([1.0, 1.0], [1.0, 10.04])
    >>> bootstrap(counts, "inverse", method="percentile", replicates=100).high.round(2).tolist()
    [1.0, 3.0]
    """
    record = describe_scheme(scheme)
    chosen = record.choose(options)
    if record.kind != "weight":
        raise OptionError(f"{scheme} gives a {record.kind}: bootstrap a scheme that gives weights")
    choice("method", method, "t", "percentile")
    edge = (1 - number("level", level, above=0, below=1)) / 2
    rounds = whole("replicates", replicates, 1)
    sample = _Sample.of(Tally.of(counts), record, chosen, cap, normalize or record.published)
    errors = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # schemes have warned of the counts themselves
        if method == "t":
            low, high, errors, kink = _by_t(sample, edge, rounds, seed)
            missing = (1 - sample.images_with / len(sample.images)) ** len(sample.images)
            rounds = 0 if record.differentiable else rounds
        else:
            low, high, missing = _by_percentiles(sample, edge, rounds, seed)
            kink = sample.tally.present & (sample.images_with <= FEW_FOR_PERCENTILES)
    return Intervals(
        labels=sample.tally.labels,
        low=low,
        high=high,
        missing=missing,
        level=level,
        replicates=rounds,
        method=method,
        errors=errors,
        images=sample.images_with,
        approximate=kink | (not record.differentiable),
    )


def _by_t(
    sample: _Sample, edge: float, rounds: int, seed: int
) -> tuple[Floats, Floats, Floats, npt.NDArray[np.bool_]]:
    """Ends of ``exp(ln w +- t(df - 1) SE)``, within the limits of the formula and under the cap.

    After the errors, which classes are where the weights have a kink: at the cap in one part of
    their interval only, or all if two classes may be the one that is normalised to 1.
    """
    squares = sample.covariance()
    if not sample.record.differentiable:
        drawn = sample.drawn_covariance(rounds, seed)
        np.fill_diagonal(drawn, np.maximum(drawn.diagonal(), squares.diagonal()))
        squares = drawn
    errors = np.sqrt(squares.diagonal())
    raw, present = sample.raw, sample.tally.present
    low, high = _of_raw(sample, errors[:-1], edge)
    kink = np.full(raw.size, _extreme_may_change(sample, low, high))
    scale = sample.scale_of(sample.sums, raw)
    of_scale = _t_quantile(edge, sample.images_with[[sample.sets_scale()]])[0] * errors[-1]
    with np.errstate(all="ignore"):
        # the error of the scale in two parts: one in proportion to that of the raw weight, and one
        # that is not correlated with it; each grows with the level, so their sum does
        known = (sample.images_with >= 2) & (squares.diagonal()[:-1] > 0)
        shared = np.where(known, squares[:-1, -1] / squares.diagonal()[:-1], 0.0)
        alike = np.where(known, squares[:-1, -1] / (errors[:-1] * errors[-1]), 0.0)
        rest = of_scale**2 * np.clip(1 - np.nan_to_num(alike) ** 2, 0, 1)
        below, above = np.log(raw / low), np.log(high / raw)
        ends = []
        for sign, one in ((-1, below), (1, above)):
            far = np.where(np.isinf(one), np.inf, np.sqrt(((1 - shared) * one) ** 2 + rest))
            ends.append(np.where(present, raw * np.exp(sign * far), (low, high)[sign > 0]) / scale)
    low, high = (np.where(present & (raw == 0), 0.0, end) for end in ends)
    if sample.cap is not None:
        least = int(np.where(present, raw, np.inf).argmin())
        kink |= (low < sample.cap * high[least]) & (high > sample.cap * low[least])
        low, high = (np.minimum(end, sample.cap * end[least]) for end in (low, high))
    of_weights = squares.diagonal()[:-1] + squares[-1, -1] - 2 * squares[:-1, -1]
    return low, high, np.where(present, np.sqrt(np.maximum(of_weights, 0)), np.nan), kink


def _extreme_may_change(sample: _Sample, low: Floats, high: Floats) -> bool:
    """Return whether the intervals of two classes allow either to be the one normalised to 1."""
    if sample.normalize not in ("max", "min"):
        return False
    place, others = sample.sets_scale(), sample.tally.present.copy()
    others[place] = False
    if sample.normalize == "max":
        return bool((high[others] > low[place]).any())
    return bool((low[others] < high[place]).any())


def _of_raw(sample: _Sample, errors: Floats, edge: float) -> tuple[Floats, Floats]:
    """Ends for the raw weights, before cap and normalisation.

    A formula with a finite limit U for a class without pixels is a bounded function of the count.
    The interval is symmetric in ``ln(1 / w - 1 / U)`` then: for ``1 / (p + eps)`` that is ``ln p``,
    and for U infinite it is ``-ln w``.
    """
    raw, known = sample.raw, sample.images_with >= 2
    lowest, highest = sample.bounds()
    with np.errstate(all="ignore"):
        beyond = 1 / raw - 1 / highest
        spread = np.exp(_t_quantile(edge, sample.images_with) * errors / (1 - raw / highest))
        low = 1 / (beyond * spread + 1 / highest)
        high = 1 / (beyond / spread + 1 / highest)
    low, high = np.where(known, low, lowest), np.where(known, high, highest)
    sure = sample.tally.present & ((errors == 0) | (known & (raw >= highest)))
    low, high = np.where(sure, raw, low), np.where(sure, raw, high)
    return np.clip(low, lowest, highest), np.clip(high, lowest, highest)


def _t_quantile(edge: float, images: npt.NDArray[np.int64]) -> Floats:
    """Upper quantile of Student's t with one degree of freedom less than there are images."""
    try:
        from scipy import special
    except ImportError as error:
        raise MissingExtra(
            "quantiles of the t distribution need SciPy (or give method='percentile')", "solve"
        ) from error
    return np.asarray(special.stdtrit(np.maximum(images - 1, 1), 1 - edge), dtype=np.float64)


def _by_percentiles(
    sample: _Sample, edge: float, rounds: int, seed: int
) -> tuple[Floats, Floats, Floats]:
    """Percentiles over data sets that are drawn with replacement.

    A class that a data set does not contain gets the limit of the formula. Where a data set has no
    such weights, nothing is known: it counts as 0 for the low end and as infinite for the high one.
    """
    present = sample.tally.present
    found = np.full((rounds, present.size), np.nan)
    gone = np.empty(found.shape, dtype=np.bool_)
    for row, (drawn, sums) in enumerate(sample.redrawn(rounds, seed)):
        gone[row] = sums["pixels"] == 0
        absent = gone[row] & present
        if sample.per_image and absent.any():  # no weight gives it a share of these images
            continue
        try:
            raw = sample.limit(sums, absent, drawn) if absent.any() else sample.at(sums, drawn)
            if sample.cap is not None:
                raw = np.minimum(raw, sample.cap * raw[present].min())
            found[row] = raw / sample.scale_of(sums, raw)
        except SolveError:
            continue
    unknown = np.isnan(found) & present
    low, high = (
        np.quantile(np.where(np.isnan(found), stand_in, found), at, axis=0, method="inverted_cdf")
        for stand_in, at in ((0.0, edge), (np.inf, 1 - edge))
    )
    if not present.all():
        scale = sample.scale_of(sample.sums, sample.raw)
        for end, limit in zip((low, high), sample.bounds(), strict=True):
            end[~present] = limit[~present] / scale
        if sample.cap is not None:
            low, high = (np.minimum(e, sample.cap * e[present].min()) for e in (low, high))
    return low, high, (unknown | gone).mean(axis=0)


Sums = dict[str, Floats]
"""Sums over images, by the name of a column."""
OF_CLASSES = ("pixels", "presence", "presence_pixels", "presence_pixels_total")
COLUMNS = (*OF_CLASSES, "void", "void_total", "items")
"""What an image adds to the statistics that a scheme may use: (K,), (V,) or (1,) numbers."""


@dataclass(frozen=True)
class _Sample:
    """The images of a count, and the scheme as a function of how often each of them is taken.

    Attributes
    ----------
    cap, normalize : as for :func:`solve`, the scale as published in place of None.
    raw : (K,) raw weights of the counts.
    sums : of all images.
    used : columns on which the weights depend.
    """

    record: Scheme
    chosen: Mapping[str, Any]
    tally: Tally
    images: Floats
    voids: Floats
    cap: float | None
    normalize: str | None
    raw: Floats
    sums: Sums
    used: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        tally: Tally,
        record: Scheme,
        chosen: Mapping[str, Any],
        cap: float | None,
        normalize: str | None,
    ) -> _Sample:
        """Read the table of items; what the counts themselves do not have is an error."""
        images = tally.images("bootstrap").astype(np.float64)
        if len(images) < 2:
            raise PresenceNeeded("an interval needs two images or more: one was counted")
        voids = tally.images_of(list(tally.ignored)).astype(np.float64)
        raw = record.values(tally, chosen)
        finish(raw, tally.pixels, cap=cap, absent="zero", normalize=normalize)
        sample = cls(record, chosen, tally, images, voids, cap, normalize, raw, {})
        sums = {name: sample.column(name).sum(axis=0) for name in COLUMNS}
        sample = replace(sample, sums=sums)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            used = [name for name in COLUMNS if name == "pixels" or sample._depends_on(name)]
        return replace(sample, used=tuple(used))

    @property
    def per_image(self) -> bool:
        """Whether the weights balance every image for itself: no function of sums over images."""
        return bool(self.chosen.get("per_image", False))

    @property
    def images_with(self) -> npt.NDArray[np.int64]:
        """(K,) images that contain each class."""
        return np.asarray(np.count_nonzero(self.images, axis=0), dtype=np.int64)

    def column(self, name: str) -> Floats:
        """What every image adds to a statistic, (B, K), (B, V) or (B, 1)."""
        if name == "pixels":
            return self.images
        if name == "void":
            return self.voids
        if name == "items":
            return np.ones((len(self.images), 1))
        held = (self.voids if name == "void_total" else self.images) > 0
        size = 1.0 if name == "presence" else self.images.sum(axis=1, keepdims=True)
        if name in ("void_total", "presence_pixels_total"):
            size = size + self.voids.sum(axis=1, keepdims=True)
        return np.asarray(held * size, dtype=np.float64)

    def at(self, sums: Sums, drawn: npt.NDArray[np.intp] | None = None) -> Floats:
        """Evaluate the formula for sums over images, scaled to as many pixels as were counted."""
        same = self.tally.counted / float(sums["pixels"].sum())
        voids = zip(sums["void"] * same, sums["void_total"] * same, strict=True)
        weighted: dict[str, Any] = {
            name: sums[name] * (1.0 if name == "presence" else same) for name in OF_CLASSES
        }
        again = replace(
            self.tally,
            items=float(sums["items"][0]),  # type: ignore[arg-type]  # a sum of weights
            ignored=dict(zip(self.tally.ignored, voids, strict=True)),
            drawn=drawn,
            weighted=True,
            **weighted,
        )
        raw = self.record.values(again, self.chosen)
        return np.where(raw < 0, np.inf, raw)  # 1 / ln n is infinite at n = 1, and negative below

    def scale_of(self, sums: Sums, raw: Floats) -> float:
        """Find the divisor of the normalisation; a class that the sums lack counts as it did."""
        if self.normalize is None:
            return 1.0
        present, gone = self.tally.present, sums["pixels"] == 0
        pixels = np.where(gone, self.sums["pixels"], sums["pixels"])[present]
        held = np.where(gone, self.raw, raw)[present]
        if self.cap is not None:
            held = np.minimum(held, self.cap * held.min())
        return scale_of(held, pixels, self.normalize)

    def sets_scale(self) -> int:
        """Find the class that the divisor of the normalisation depends on most."""
        part = np.where(self.tally.present, self.raw, 0.0)
        if self.cap is not None and part.any():
            part = np.minimum(part, self.cap * part[part > 0].min())
        if self.normalize == "min":
            return int(np.where(part > 0, part, np.inf).argmin())
        return int(
            (part * self.sums["pixels"] if self.normalize == "pixel_mean" else part).argmax()
        )

    def _depends_on(self, name: str) -> bool:
        """Return whether other numbers in a column change the weights."""
        column = self.sums[name]
        other = column * (1 + STEP * np.random.default_rng(0).uniform(0.5, 1, column.shape))
        return not np.array_equal(self.at(self.sums), self.at({**self.sums, name: other}), True)

    def limit(
        self,
        sums: Sums,
        vanishing: npt.NDArray[np.bool_],
        drawn: npt.NDArray[np.intp] | None = None,
        names: tuple[str, ...] = OF_CLASSES,
    ) -> Floats:
        """Evaluate the formula in the limit of classes that no image contains.

        The images that contain such a class in the counts get a weight that goes to 0: the share of
        the class in them, which median frequency uses, stays what it is in the counts.
        """
        found = []
        for factor in VANISHING:
            own = {name: np.maximum(self.sums[name], 1) * factor for name in names}
            rare = {name: np.where(vanishing, own[name], sums[name]) for name in names}
            found.append(self.at({**sums, **rare}, drawn))
        first, second = found
        with np.errstate(invalid="ignore"):
            same = np.isclose(first, second, rtol=1e-6, atol=0)
        return np.where(same, first, np.inf)

    def bounds(self) -> tuple[Floats, Floats]:
        """(K,) and (K,): what the formula gives a class that covers all, and one that is absent."""
        size = self.raw.size
        if self.per_image:
            return np.zeros(size), np.full(size, np.inf)
        whole = np.append(self.sums["pixels"].sum(), self.sums["items"])
        inside = np.append(whole[0] + self.sums["void"].sum(), whole[0])
        of_all = dict(zip(OF_CLASSES, (whole[0], whole[1], inside[1], inside[0]), strict=True))
        low, high = np.empty(size), np.empty(size)
        held = {**self.sums, "presence_pixels": np.maximum(self.sums["presence_pixels"], 1)}
        held["presence_pixels_total"] = np.maximum(self.sums["presence_pixels_total"], 1)
        for place in range(size):
            one = np.arange(size) == place
            low[place] = self.limit(
                {**self.sums, **{n: np.where(one, of_all[n], 0.0) for n in OF_CLASSES}}, ~one
            )[place]
            # its pixels and images alone: its share of those images is not known either
            high[place] = self.limit(held, one, names=("pixels", "presence"))[place]
        present = self.tally.present
        low = np.where(present, np.minimum(low, self.raw), low)
        return low, np.where(present, np.maximum(high, self.raw), high)

    def covariance(self) -> Floats:
        """(K + 1, K + 1) covariances of ln w and of the logarithm of the scale: see influence."""
        influence = self.influence()
        images = len(influence)
        return np.asarray(influence.T @ influence * (images / (images - 1)))

    def drawn_covariance(self, rounds: int, seed: int) -> Floats:
        """Estimate the covariances from data sets that are drawn with replacement.

        For a formula with a median: which class is in the middle differs between data sets, and no
        derivative knows that.
        """
        found = []
        for drawn, sums in self.redrawn(rounds, seed):
            raw = self.limit(sums, (sums["pixels"] == 0) & self.tally.present, drawn)
            with np.errstate(all="ignore"):
                found.append(np.log(np.append(raw, self.scale_of(sums, raw))))
        logs = np.array(found)
        seen = np.isfinite(logs)
        off = np.where(seen, logs, 0.0)
        off = np.where(seen, logs - off.sum(axis=0) / np.maximum(seen.sum(axis=0), 1), 0.0)
        both = seen.astype(np.float64).T @ seen
        return np.asarray(off.T @ off / np.maximum(both - 1, 1))

    def influence(self) -> Floats:
        """(B, K + 1) derivatives of ln w by the weight of each image, before cap and normalisation.

        The last column is that of the logarithm of the scale. Columns have mean 0. Central
        differences in the sums, then the chain rule; a weight of 0 has no derivative.
        """
        if self.per_image:
            of_raw = log_weight_influence(self.images, self.raw)
            found = np.column_stack([of_raw, self._influence_on_scale(of_raw)])
            return np.asarray(found - found.mean(axis=0))
        found = np.zeros((len(self.images), self.raw.size + 1))
        for name in self.used:
            column = self.column(name)
            slopes = np.zeros((column.shape[1], self.raw.size + 1))
            for place in np.flatnonzero(self.sums[name]):
                ends = []
                for step in (1 + STEP, 1 - STEP):
                    moved = {**self.sums, name: self.sums[name].copy()}
                    moved[name][place] *= step
                    raw = self.at(moved)
                    ends.append(np.append(raw, self.scale_of(moved, raw)))
                slopes[place] = _slope(*ends) / self.sums[name][place]
            found += column @ slopes
        return np.asarray(found - found.mean(axis=0))

    def _influence_on_scale(self, of_raw: Floats) -> Floats:
        """(B,) derivatives of the logarithm of the scale, given those of the raw weights."""
        found = np.zeros(len(of_raw))
        for place in np.flatnonzero(self.tally.present):
            step = np.where(np.arange(self.raw.size) == place, STEP, 0.0)
            pixels = self.sums["pixels"]
            by_raw, by_pixels = (
                _slope(*(np.array([self.scale_of(*end)]) for end in ends))[0]
                for ends in (
                    [(self.sums, self.raw * (1 + sign * step)) for sign in (1, -1)],
                    [
                        ({**self.sums, "pixels": pixels * (1 + sign * step)}, self.raw)
                        for sign in (1, -1)
                    ],
                )
            )
            found += by_raw * of_raw[:, place] + by_pixels * self.images[:, place] / pixels[place]
        return found

    def redrawn(self, rounds: int, seed: int) -> Iterator[tuple[npt.NDArray[np.intp] | None, Sums]]:
        """Draw data sets of as many images; yield the images (if they matter) and the sums."""
        draw = np.random.default_rng(seed)
        images = len(self.images)
        columns = {name: self.column(name) for name in self.used}
        most = max(1, DRAWN_AT_ONCE // images)
        for start in range(0, rounds, most):
            drawn = [draw.integers(images, size=images) for _ in range(min(most, rounds - start))]
            times = np.array([np.bincount(rows, minlength=images) for rows in drawn], dtype=float)
            summed = {name: times @ column for name, column in columns.items()}
            for place, rows in enumerate(drawn):
                sums = {name: column[place] for name, column in summed.items()}
                yield (rows if self.per_image else None), {**self.sums, **sums}


def _slope(more: Floats, less: Floats) -> Floats:
    """Central difference of logarithms over a relative step; 0 where one of them is infinite."""
    with np.errstate(all="ignore"):
        found = np.log(more / less) / (2 * STEP)
    return np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)
