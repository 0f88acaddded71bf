"""Weights: a frozen value that states its convention.

Weights and the class prior that they imply are one bijection. With ``n`` pixels of each class,
``N`` in all, and weights ``w``, training sees the prior ``n * w / sum(n * w)``; and the weights
that make it see a prior ``q`` are ``q * N / n``. Every scheme of :mod:`fastcounts.solvers` chooses
a prior.

Between the raw values of a scheme and the weights are three steps, always in this order: the cap,
the normalisation, the absent classes. The first two use the classes that have pixels, so the policy
for absent classes never changes the weight of another class. :func:`finish` does all three.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastcounts.classes import MOST_CLASSES
from fastcounts.errors import AbsentClass, OptionError, SolveError
from fastcounts.messages import argument, variants
from fastcounts.tabular import weights_html

if TYPE_CHECKING:
    import pandas as pandas_library  # noqa: ICN001

__all__ = [
    "ABSENT_POLICIES",
    "KINDS",
    "NORMALIZATIONS",
    "Weights",
    "absent_policy",
    "class_count",
    "finish",
    "implied_prior",
    "logit_bias",
    "plain",
    "weights_from_prior",
]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int64] | npt.NDArray[np.uint64]

KINDS: dict[str, str] = {
    "weight": "multiplies the loss of every pixel of its class",
    "pos_weight": "multiplies the positive term of a sigmoid loss, one number a channel",
    "bias": "is added to the logit of its class",
    "margin": "is subtracted from the logit of the true class while training",
    "item": "says how often an item (an image) is drawn, relative to others",
}
NORMALIZATIONS: dict[str, str] = {
    "pixel_mean": "the mean over all pixels is 1: the loss keeps its scale",
    "mean": "the mean over the classes with pixels is 1",
    "sum": "the sum over the classes with pixels is 1",
    "max": "the largest weight of a class with pixels is 1",
    "min": "the smallest weight above zero of a class with pixels is 1",
}
ABSENT_POLICIES: dict[str, str] = {
    "raise": "an error names the classes",
    "max": "the largest weight of a class that has pixels",
    "one": "1, or the nearest weight of a class that has pixels if 1 lies outside their range",
    "zero": "0",
    "smooth": "as if one more image contained one pixel of the class (smooth:100 for a hundred),"
    " and at least the largest weight of a class that has pixels; a bias: at most the smallest",
    "formula": "what the formula gives for zero pixels, on the same scale and under the same cap",
    "mask": "minus infinity, for a bias: the class is never predicted",
}
_OF_WEIGHTS = tuple(policy for policy in ABSENT_POLICIES if policy != "mask")
_POLICIES_OF_KIND: dict[str, tuple[str, ...]] = {
    "weight": _OF_WEIGHTS,
    "pos_weight": _OF_WEIGHTS,
    "bias": ("raise", "zero", "smooth", "formula", "mask"),
    "margin": ("raise", "max", "zero", "smooth", "formula"),
    "item": ("raise", "zero"),
}


def weights_from_prior(pixels: npt.ArrayLike, prior: npt.ArrayLike) -> Floats:
    """Weights under which training sees ``prior`` instead of the frequencies of the classes.

    ``w[c] = prior[c] / (n[c] / N)``; the mean over all pixels is 1.

    Parameters
    ----------
    pixels : (K,) pixels of each class, all above zero where the prior is.
    prior : (K,) nonnegative, of any sum above zero.

    Returns
    -------
    (K,) float64; 0 for a class without pixels whose prior is 0.

    Raises
    ------
    AbsentClass : a class without pixels and a prior above zero.
    OptionError : a prior that is negative, not finite, of another length, or zero everywhere;
        pixels that are negative or not finite.

    Notes
    -----
    King and Zeng (2001), Political Analysis 9(2), 137-163: weighting by the ratio of the priors.

    Examples
    --------
    >>> weights_from_prior([180, 90, 25, 5], [0.4, 0.3, 0.2, 0.1]).round(6).tolist()
    [0.666667, 1.0, 2.4, 6.0]
    """
    counts, wanted = pixels_and_values(pixels, prior, "prior")
    if not wanted.any():
        raise OptionError(
            f"prior {_few(wanted.tolist())}: give one above zero, for a class that has pixels"
        )
    if (wanted[counts == 0] > 0).any():
        raise AbsentClass("the prior is above zero where there are no pixels: no weight gives that")
    frequency = counts / total_of(counts)
    shares = wanted / wanted.sum()
    weights = np.zeros(counts.shape)
    np.divide(shares, frequency, out=weights, where=counts > 0)
    return weights


def implied_prior(pixels: npt.ArrayLike, weights: npt.ArrayLike) -> Floats:
    """Class prior that a loss with these weights sees: the inverse of :func:`weights_from_prior`.

    ``prior[c] = n[c] * w[c] / sum(n * w)``, whatever the scale of the weights.

    Parameters
    ----------
    pixels : (K,) pixels of each class.
    weights : (K,) nonnegative.

    Returns
    -------
    (K,) float64 of sum 1.

    Raises
    ------
    SolveError : no class has both pixels and a weight.
    OptionError : weights that are negative, not finite or of another length.

    Examples
    --------
    >>> implied_prior([180, 90, 25, 5], [1, 1, 1, 1]).round(6).tolist()
    [0.6, 0.3, 0.083333, 0.016667]
    >>> implied_prior([180, 90, 25, 5], [1, 2, 7.2, 36]).round(6).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    counts, values = pixels_and_values(pixels, weights, "weights")
    mass = counts * values
    total = float(mass.sum())
    if not total > 0:
        raise SolveError("no class has both pixels and a weight above zero: there is no prior")
    return np.asarray(mass / total, dtype=np.float64)


def logit_bias(weights: npt.ArrayLike) -> Floats:
    """``ln w``: added to the logits of a model trained without weights, it does what they do.

    With unlimited data both models have the same posterior; subtracting it undoes the weights.

    Parameters
    ----------
    weights : (K,) nonnegative.

    Returns
    -------
    (K,) float64; minus infinity where the weight is zero.

    Raises
    ------
    OptionError : a weight that is negative or not finite.

    Notes
    -----
    Elkan (2001), IJCAI; Saerens, Latinne and Decaestecker (2002), Neural Computation 14, 21-41.

    Examples
    --------
    >>> logit_bias([1, 2, 7.2, 36]).round(6).tolist()
    [0.0, 0.693147, 1.974081, 3.583519]
    """
    values = np.asarray(weights, dtype=np.float64)
    if not np.isfinite(values).all() or (values < 0).any():
        raise OptionError(f"weights {values.tolist()}: give finite numbers, none below zero")
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(values))


def pixels_and_values(
    pixels: npt.ArrayLike, values: npt.ArrayLike, what: str
) -> tuple[npt.NDArray[Any], Floats]:
    """Pixels and one number a class, checked.

    Raises
    ------
    OptionError : different lengths; a number that is negative or not finite.

    Examples
    --------
    >>> pixels_and_values([3, 1], [1, 3], "weights")
    (array([3, 1]), array([1., 3.]))
    """
    counts, numbers = np.asarray(pixels), np.asarray(values, dtype=np.float64)
    if numbers.shape != counts.shape or counts.ndim != 1:
        raise OptionError(
            f"{what}: {numbers.size} numbers for the pixels of {counts.size} classes: give one a "
            "class"
        )
    for name, given in (("pixels", counts), (what, numbers)):
        bad = ~np.isfinite(given) | (given < 0)
        if bad.any():
            place = int(bad.argmax())
            raise OptionError(
                f"{name}: the number at place {place} is {given[place]}: give nonnegative, finite "
                "numbers"
            )
    return counts, numbers


def total_of(pixels: npt.NDArray[Any]) -> float:
    """Sum, exact before it is rounded, also where an int64 would overflow."""
    return float(sum(pixels.tolist()))


def is_number(value: object) -> bool:
    """Return whether it is a finite number that a float holds; True and False are not.

    Examples
    --------
    >>> is_number(2), is_number(True), is_number("2"), is_number(float("nan"))
    (True, False, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False


def class_count(value: Any) -> int:
    """Read ``num_classes=``.

    Raises
    ------
    OptionError : no whole number of 1 to 2**24.
    """
    if not is_number(value) or int(value) != value or not 1 <= value <= MOST_CLASSES:
        raise OptionError(
            f"{argument('num_classes', value)}: give a whole number, 1 or more, up to "
            f"{MOST_CLASSES}"
        )
    return int(value)


def absent_policy(absent: str, kind: str) -> tuple[str, float]:
    """Read ``absent=``: the policy, and the pixels that ``smooth`` gives to every class.

    Raises
    ------
    OptionError : no such policy, or not for this kind of values.

    Examples
    --------
    >>> absent_policy("max", "weight"), absent_policy("smooth:100", "weight")
    (('max', 1.0), ('smooth', 100.0))
    """
    policy, _, amount = str(absent).partition(":")
    allowed = _POLICIES_OF_KIND[kind]
    if policy not in allowed:
        raise OptionError(
            f"{argument('absent', absent)}: a {kind} of a class without pixels can be "
            f"{', '.join(allowed)}"
        )
    if not amount:
        return policy, 1.0
    try:
        pixels = float(amount)
    except ValueError:
        pixels = math.nan
    if policy != "smooth" or not (math.isfinite(pixels) and pixels > 0):
        raise OptionError(
            f"{argument('absent', absent)}: only smooth takes a number, and it is above zero"
        )
    return policy, pixels


def finish(
    raw: Floats,
    pixels: Integers,
    *,
    kind: str = "weight",
    cap: float | None = None,
    absent: str = "raise",
    normalize: str | None = None,
    classes: Sequence[str] | None = None,
    left_out: npt.NDArray[np.bool_] | None = None,
) -> Floats:
    """Turn raw values of a scheme into final ones: cap, then normalisation, then absent classes.

    The cap ``R`` lowers what exceeds ``R`` times the smallest weight. For weights ``1 / n`` that is
    the closest to equal cost that any weights of this ratio come. Cap and normalisation use the
    classes that have pixels: their weights do not depend on ``absent``.

    Parameters
    ----------
    raw : (K,) what the scheme gave; for a class without pixels used under ``absent="formula"`` and
        ``"smooth"`` only.
    pixels : (K,) pixels of each class.
    kind : a key of :data:`KINDS`; only ``"weight"`` is capped and normalised.
    cap : largest over smallest weight, at least 1.
    absent : a key of :data:`ABSENT_POLICIES`.
    normalize : a key of :data:`NORMALIZATIONS`, or None for the scale as it is.
    classes : (K,) what the classes are called in errors.
    left_out : (K,) places of ignored labels: 0, and no part of anything else.

    Returns
    -------
    (K,) float64, read-only.

    Raises
    ------
    AbsentClass : a class without pixels under ``absent="raise"``, or no class with pixels.
    SolveError : the formula gives no finite, nonnegative value.
    OptionError : a cap below 1, an unknown normalisation or policy.

    Examples
    --------
    >>> import numpy as np
    >>> raw, pixels = np.array([1, 2, 7.2, 36]), np.array([180, 90, 25, 5])
    >>> finish(raw, pixels, cap=10, normalize="pixel_mean").round(6).tolist()
    [0.508475, 1.016949, 3.661017, 5.084746]
    """
    called = list(classes) if classes is not None else [str(index) for index in range(raw.size)]
    policy, _ = absent_policy(absent, kind)
    _check_convention(kind, cap, normalize)
    if kind == "item":
        _check_values(raw, np.ones(raw.shape, dtype=np.bool_), kind, called)
        return _frozen(raw)
    if left_out is not None and left_out.any():
        values = np.zeros(raw.shape)
        values[~left_out] = finish(
            raw[~left_out],
            pixels[~left_out],
            kind=kind,
            cap=cap,
            absent=absent,
            normalize=normalize,
            classes=[name for name, out in zip(called, left_out, strict=True) if not out],
        )
        return _frozen(values)
    present = pixels > 0
    if not present.any():
        raise AbsentClass("no class has a pixel: count masks that hold some of the classes first")
    _check_values(raw, present, kind, called)
    real = raw[present]
    if cap is not None:
        real = capped(real, float(cap), [called[place] for place in np.flatnonzero(present)])
    scale = 1.0 if normalize is None else scale_of(real, pixels[present], normalize)
    values = np.empty(raw.shape)
    values[present] = real / scale
    absent_names = [called[place] for place in np.flatnonzero(~present)]
    if absent_names:
        wanted = raw[~present] / scale
        if policy == "smooth" or (policy == "formula" and kind != "bias"):
            _check_values(raw, ~present, kind, called)
        elif policy == "formula":  # minus infinity leaves a class out of the softmax
            _check_values(raw, ~present & (raw != -np.inf), kind, called)
        values[~present] = _stand_in(values[present], wanted, policy, kind, absent_names)
        if cap is not None:
            values = np.minimum(values, float(cap) * values[present].min())
    return _frozen(values)


def _check_convention(kind: str, cap: float | None, normalize: str | None) -> None:
    if normalize is not None and str(normalize) not in NORMALIZATIONS:
        raise OptionError(
            f"{argument('normalize', normalize)}: give one of {', '.join(NORMALIZATIONS)}"
        )
    if cap is not None and not (is_number(cap) and cap >= 1):
        raise OptionError(
            f"{argument('cap', cap)}: the largest weight over the smallest is 1 or more: "
            "give such a number"
        )
    if kind != "weight" and not (cap is None and normalize is None):
        raise OptionError(
            f"a {kind} is neither capped nor normalised: leave out {argument('cap')} and "
            f"{argument('normalize')}"
        )


def _check_values(raw: Floats, known: npt.NDArray[np.bool_], kind: str, called: list[str]) -> None:
    """Refuse what no loss takes, with the name of the class."""
    bad = known & ~np.isfinite(raw)
    if kind in ("weight", "pos_weight", "item"):
        bad |= known & (raw < 0)
    if bad.any():
        shown = ", ".join(f"{called[i]}: {raw[i]:g}" for i in np.flatnonzero(bad)[:8])
        other = argument("absent", "mask") if kind == "bias" else f"another {argument('absent')}"
        raise SolveError(
            f"the formula gives no usable {kind} here ({shown}): change its options, give {other} "
            "if the class has no pixels, or take another scheme"
        )


def capped(values: Floats, cap: float, called: list[str]) -> Floats:
    """Lower what exceeds ``cap`` times the smallest value.

    Raises
    ------
    SolveError : the smallest is 0; names the class.
    """
    smallest = values.min()
    if smallest == 0:
        name = called[int(values.argmin())]
        raise SolveError(f"the weight of class {name} is 0: no cap bounds a ratio to it")
    return np.asarray(np.minimum(values, cap * smallest))


def _stand_in(
    real: Floats, wanted: Floats, policy: str, kind: str, absent: list[str]
) -> Floats | float:
    """Return the final values of the classes without pixels.

    Parameters
    ----------
    real : final values of the classes with pixels.
    wanted : what the formula gives for the others, on the same scale.
    """
    if policy == "raise":
        some = ", ".join(absent[:8]) + (", ..." if len(absent) > 8 else "")
        policies = [known for known in _POLICIES_OF_KIND[kind] if known not in ("raise", "formula")]
        raise AbsentClass(
            f"no pixels of class {some}: say what such a class weighs with "
            f"{argument('absent', *policies)}, or leave it out of the classes"
        )
    low, high = float(real.min()), float(real.max())
    if policy == "smooth":
        return _smoothed(wanted, low, high, kind)
    if policy == "formula":
        return wanted
    return {"max": high, "one": min(max(1.0, low), high), "mask": -np.inf}.get(policy, 0.0)


def _smoothed(wanted: Floats, low: float, high: float, kind: str) -> Floats:
    """Keep a class that was never seen from looking more common than one that was.

    A weight is at least the largest of a class with pixels, unless the scheme gives the class
    none. A margin never exceeds that of the rarest class. A bias is at most the smallest, so that a
    class that training never sees is not preferred to one that it does.
    """
    if kind == "bias":
        return np.minimum(wanted, low)
    if kind == "margin":
        return np.full(wanted.shape, high)
    return np.where(wanted > 0, np.maximum(wanted, high), 0.0)


def scale_of(values: Floats, pixels: Integers, normalize: str) -> float:
    """Find what the weights are divided by.

    Raises
    ------
    SolveError : all weights are zero.
    """
    if normalize == "pixel_mean":
        total = total_of(pixels)
        scale = float((pixels / total * values).sum()) if total else 0.0
    elif normalize == "min":
        scale = float(values[values > 0].min(initial=np.inf))
    else:
        scale = float(getattr(values, normalize)())
    if not (0 < scale < math.inf):
        raise SolveError(
            f"{argument('normalize', normalize)}: all weights are zero, nothing to scale"
        )
    return scale


def _frozen(values: Floats) -> Floats:
    kept = np.array(values, dtype=np.float64)
    kept.flags.writeable = False
    return kept


def plain(value: object) -> Any:
    """Put lists, dicts and numbers in place of arrays, None in place of what JSON cannot say."""
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@dataclass(frozen=True, eq=False, repr=False)
class Weights:
    """One value a class, with the convention by which it came.

    Made by :func:`fastcounts.solve`.

    Attributes
    ----------
    values : (K,) float64, read-only.
    labels : (K,) int64 or uint64, sorted.
    kind : a key of :data:`KINDS`.
    scheme : name of the scheme.
    options : its options, defaults included.
    normalize : what was asked for; None is the scale of the scheme as published.
    cap : largest over smallest weight, or None.
    absent : the policy for classes without pixels.
    names : label to name, where names are known.
    ignore : labels that were left out.
    pixels : (K,) int64, pixels of each class.
    diagnostics : what the weights do; see ``docs/weights.md``.

    Examples
    --------
    >>> import fastcounts as fc
    >>> counts = fc.Counts.from_pixels({0: 180, 1: 90, 2: 25, 3: 5})
    >>> weights = fc.solve(counts, "inverse")
    >>> weights.as_dict()
    {0: 1.0, 1: 2.0, 2: 7.2, 3: 36.0}
    >>> weights.kind, weights.diagnostics["pixel_mean"]
    ('weight', 2.4)
    """

    values: Floats
    labels: Labels
    pixels: Integers
    kind: str = "weight"
    scheme: str = "given"
    options: Mapping[str, Any] = field(default_factory=dict)
    normalize: str | None = None
    cap: float | None = None
    absent: str = "raise"
    names: Mapping[int, str] = field(default_factory=dict)
    ignore: tuple[int, ...] = ()
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    raw: Floats = field(default_factory=lambda: np.empty(0))
    published: str | None = None
    extends: bool = True

    def __post_init__(self) -> None:
        if not (self.values.shape == self.labels.shape == self.pixels.shape):
            raise OptionError(
                f"{self.values.size} values, {self.labels.size} labels, {self.pixels.size} pixel "
                "counts: give as many of each"
            )
        if self.kind not in KINDS:
            raise OptionError(f"kind={self.kind!r}: give one of {', '.join(KINDS)}")

    def __len__(self) -> int:
        return int(self.labels.size)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Weights):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(f"{label}: {value:.6g}" for label, value in list(self._pairs())[:8])
        more = ", ..." if len(self) > 8 else ""
        return f"Weights({self.convention()}; {{{shown}{more}}})"

    def _repr_html_(self) -> str:
        return weights_html(self)

    def _pairs(self) -> Iterable[tuple[int, float]]:
        return zip(self.labels.tolist(), self.values.tolist(), strict=True)

    def convention(self) -> str:
        """One line that says how the values came, to paste beside them."""
        options = ", ".join(f"{key}={_brief(value)}" for key, value in self.options.items())
        parts = [f"{self.scheme}({options})", self.kind]
        if self.kind == "weight":
            parts.append(f"normalize={self.normalize or 'as published'}")
            parts.append(f"cap={self.cap if self.cap is not None else 'none'}")
        return ", ".join([*parts, f"absent={self.absent}"])

    def as_dict(self) -> dict[int, float]:
        """Label to value, for ``class_weight=`` of scikit-learn and others."""
        return dict(self._pairs())

    def to_dict(self) -> dict[str, Any]:
        """Give what ``fastcounts solve --format json`` prints."""
        return {
            "scheme": self.scheme,
            "kind": self.kind,
            "options": plain(self.options),
            "normalize": self.normalize,
            "cap": plain(self.cap),
            "absent": self.absent,
            "labels": self.labels.tolist(),
            "ignore": list(self.ignore),
            "names": {str(label): name for label, name in self.names.items()},
            "weights": plain(self.values),
            "diagnostics": plain(self.diagnostics),
        }

    def dense(
        self, num_classes: int | None = None, *, order: Sequence[int] | None = None
    ) -> Floats:
        """Values indexed by label, as the output channels of a network are.

        Parameters
        ----------
        num_classes : length of the result; labels that are not there are filled by the policy for
            absent classes with which the weights were solved, ignored ones with 0.
        order : the label of each channel, instead of ``num_classes``; names every label once, and
            may name ignored ones, which get 0.

        Returns
        -------
        (num_classes,) float64.

        Raises
        ------
        OptionError : the labels are not 0..K-1 and neither argument says what to do, or they do
            not fit the argument.
        AbsentClass : a gap, and the policy is to raise.

        Examples
        --------
        >>> import numpy as np
        >>> values, labels = np.array([1.0, 2.0]), np.array([3, 5])
        >>> weights = Weights(values, labels, np.array([20, 10]), absent="zero")
        >>> weights.dense(6).tolist()
        [0.0, 0.0, 0.0, 1.0, 0.0, 2.0]
        >>> weights.dense(order=[5, 3]).tolist()
        [2.0, 1.0]
        """
        if order is not None:
            if num_classes is not None:
                raise OptionError(
                    f"{argument('num_classes')} and {argument('order')} were both given: give one "
                    "of them"
                )
            return self._ordered(list(order))
        labels = self.labels.tolist()
        if num_classes is None and labels != list(range(len(self))):
            raise OptionError(
                f"the labels are {_few(labels)}, and a dense vector is indexed by label: "
                f"give {argument('num_classes', max(labels, default=0) + 1)} or more to fill "
                f"the gaps by {argument('absent')}, or {argument('order', ...)} to name the "
                "label of each place"
            )
        size = len(self) if num_classes is None else class_count(num_classes)
        if labels and (labels[0] < 0 or labels[-1] >= size):
            outside = labels[0] if labels[0] < 0 else labels[-1]
            raise OptionError(
                f"label {outside} has no place among {argument('num_classes', size)}: the "
                f"places are 0..{size - 1}; give a larger number, or {argument('order', ...)}"
            )
        return self.values.copy() if size == len(self) else self._spread(size)

    def _ordered(self, order: list[Any]) -> Floats:
        labels = self.as_dict()
        known = dict.fromkeys(self.ignore, 0.0) | labels
        if not set(labels) <= set(order) <= set(known) or len(order) != len(set(order)):
            raise OptionError(
                f"{argument('order')} {_few(order)} must name each of the labels "
                f"{_few(sorted(labels))} once"
            )
        return np.array([known[label] for label in order], dtype=np.float64)

    def _spread(self, size: int) -> Floats:
        """Solve again with the gaps as classes without pixels, so that the scale is the same."""
        policy, _ = absent_policy(self.absent, self.kind)
        gaps = sorted(set(range(size)) - set(self.labels.tolist()))
        if not self.extends or policy in ("smooth", "formula"):
            raise OptionError(
                f"{self.scheme} with {argument('absent', self.absent)} depends on the number of "
                f"classes: give {argument('num_classes', size)}{variants(' to solve()', '')}"
            )
        if policy == "raise" and (gaps := [label for label in gaps if label not in self.ignore]):
            raise AbsentClass(
                f"no pixels of class {_few(gaps)} of {size}: solve with "
                f"{argument('absent', 'max', 'one', 'zero')} to say what such a class weighs"
            )
        raw, pixels = np.full(size, np.nan), np.zeros(size, dtype=np.int64)
        places = self.labels.astype(np.int64)
        raw[places] = self.raw if self.raw.size else self.values
        pixels[places] = self.pixels
        return finish(
            raw,
            pixels,
            kind=self.kind,
            cap=self.cap,
            absent=self.absent,
            normalize=self.normalize or self.published,
            left_out=np.array([label in self.ignore for label in range(size)]),
        ).copy()

    def float32(
        self, num_classes: int | None = None, *, order: Sequence[int] | None = None
    ) -> npt.NDArray[np.float32]:
        """:meth:`dense` as float32, the dtype that losses want.

        Raises
        ------
        SolveError : a weight that no float32 holds.
        """
        return single_precision(self.dense(num_classes, order=order))

    def to_pandas(self) -> pandas_library.DataFrame:
        """Return a table with a row per class; see :func:`fastcounts.export.frame`."""
        from fastcounts import export

        return export.frame(self)

    def lookup(self, size: int = 256, *, other: float = 0.0) -> npt.NDArray[np.float32]:
        """Table from pixel value to weight; see :func:`fastcounts.export.lookup`."""
        from fastcounts import export

        return export.lookup(self, size, other=other)

    def torch(self, num_classes: int | None = None, *, order: Sequence[int] | None = None) -> Any:
        """Float32 tensor for ``CrossEntropyLoss(weight=)``; see :func:`fastcounts.export.torch`."""
        from fastcounts import export

        return export.torch(self, num_classes, order=order)

    def keras(self, size: int = 256, *, other: float = 0.0) -> Any:
        """Map (image, mask) to (image, mask, weight); see :func:`fastcounts.export.keras`."""
        from fastcounts import export

        return export.keras(self, size, other=other)


def _brief(value: object) -> str:
    """Value of an option on one line, long ones cut."""
    text = " ".join(str(plain(value)).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def single_precision(values: Floats) -> npt.NDArray[np.float32]:
    """Values as float32.

    Raises
    ------
    SolveError : a finite value becomes infinite.
    """
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    lost = np.isinf(single) & np.isfinite(values)
    if lost.any():
        raise SolveError(
            f"{values[lost][0]:g} is infinite in float32: give {argument('cap')} or "
            f"{argument('normalize', 'max')}"
        )
    return single


def _few(labels: Sequence[Any]) -> str:
    return ", ".join(str(label) for label in labels[:8]) + (", ..." if len(labels) > 8 else "")
