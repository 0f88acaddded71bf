"""From counts to weights: one function a scheme, one entry, :func:`solve`.

A scheme is a function from a :class:`Tally` (what it may know of the counts) to one raw value a
class. The decorator :func:`scheme` adds it to the register together with its formula, its source
and what it does to a class without pixels; help texts and documentation are made from the register.
A scheme need not care for classes without pixels: their values are replaced afterwards.
"""

from __future__ import annotations

import difflib
import inspect
import json
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from fastcounts import diagnostics
from fastcounts.errors import (
    AbsentClass,
    InfeasibleCosts,
    MissingExtra,
    OptionError,
    PresenceNeeded,
    SolveError,
    UnknownScheme,
)
from fastcounts.weights import (
    Floats,
    Integers,
    Labels,
    Weights,
    absent_policy,
    finish,
    implied_prior,
    weights_from_prior,
)

if TYPE_CHECKING:
    from fastcounts.counts import Counts
    from fastcounts.items import ItemTable

__all__ = [
    "Intervals",
    "Option",
    "Scheme",
    "Tally",
    "bootstrap",
    "describe_scheme",
    "equal_masses",
    "per_image_weights",
    "rare_class_chances",
    "read_option",
    "schemes",
    "solve",
]


@dataclass(frozen=True)
class Tally:
    """What a scheme may know of the counts: its classes in label order, and the rest summed.

    Attributes
    ----------
    labels : (K,) int64 or uint64, sorted.
    pixels : (K,) int64, 0 for a class that was not seen.
    items : how many images were counted; 0 where that is not known.
    presence : (K,) int64, images that contain the class.
    presence_pixels : (K,) int64, pixels of any class in those images.
    presence_pixels_total : (K,) int64, ignored pixels included.
    ignored : pixels of each ignored label, with its ``presence_pixels_total``.
    table : pixels of every label in every image, or None; see ``keep_items``.
    names : label to name, where names are known.
    """

    labels: Labels
    pixels: Integers
    items: int
    presence: Integers
    presence_pixels: Integers
    presence_pixels_total: Integers
    ignored: tuple[tuple[int, int], ...] = ()
    table: ItemTable | None = None
    names: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, counts: Counts) -> Tally:
        """Read the counts."""
        return cls(
            labels=counts.labels,
            pixels=counts.pixels,
            items=counts.items,
            presence=counts.presence,
            presence_pixels=counts.presence_pixels,
            presence_pixels_total=counts.presence_pixels_total,
            ignored=tuple(
                (int(entry.pixels), int(entry.presence_pixels_total))
                for entry in counts.ledger.ignored.values()
            ),
            table=counts.item_table,
            names=dict(counts.names),
        )

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """(K,) which classes have pixels."""
        return self.pixels > 0

    @property
    def classes(self) -> int:
        """How many classes have pixels."""
        return int(np.count_nonzero(self.pixels))

    @property
    def counted(self) -> int:
        """Pixels of all classes, exact."""
        return sum(self.pixels.tolist())

    @property
    def void(self) -> int:
        """Pixels of all ignored labels, exact."""
        return sum(pixels for pixels, _ in self.ignored)

    @property
    def frequencies(self) -> Floats:
        """(K,) float64, pixels of the class over pixels of all classes."""
        return np.asarray(self.pixels / self.counted)

    @property
    def others(self) -> Floats:
        """(K,) float64, pixels of all other classes, subtracted as whole numbers."""
        counted = self.counted
        return np.array([counted - count for count in self.pixels.tolist()], dtype=np.float64)

    def need_presence(self, why: str) -> None:
        """Refuse counts that do not say in how many images each class is."""
        if self.items < 2:
            raise PresenceNeeded(
                f"{why} needs to know in which images each class occurs, and these counts know "
                f"{self.items or 'no'} image{'' if self.items == 1 else 's'}: count with items= "
                "(an axis number or 'file'), or give items=, presence= and presence_pixels= to "
                "Counts.from_pixels"
            )

    def called(self) -> list[str]:
        """Names of the classes for errors."""
        return [
            f"{label} ({self.names[label]})" if label in self.names else str(label)
            for label in self.labels.tolist()
        ]

    def with_classes(self, num_classes: int) -> Tally:
        """Take the labels 0 to ``num_classes - 1``, with zeros where none were seen."""
        if isinstance(num_classes, bool) or int(num_classes) != num_classes or num_classes < 1:
            raise OptionError(f"num_classes={num_classes!r}: give a whole number, 1 or more")
        outside = [label for label in self.labels.tolist() if not 0 <= label < num_classes]
        if outside:
            raise OptionError(
                f"label {outside[0]} is none of the num_classes={num_classes} labels 0.."
                f"{num_classes - 1}: ignore it when counting, or give a larger num_classes"
            )
        places = self.labels.astype(np.int64)

        def spread(values: Integers) -> Integers:
            wide = np.zeros(int(num_classes), dtype=np.int64)
            wide[places] = values
            return wide

        return replace(
            self,
            labels=np.arange(int(num_classes), dtype=np.int64),
            pixels=spread(self.pixels),
            presence=spread(self.presence),
            presence_pixels=spread(self.presence_pixels),
            presence_pixels_total=spread(self.presence_pixels_total),
        )

    def smoothed(self, pixels: float) -> Tally:
        """As if one more image held so many pixels of every class."""
        image = pixels * self.labels.size
        return replace(
            self,
            pixels=_grown(self.pixels, pixels),
            items=self.items + 1 if self.items else 0,
            presence=self.presence + 1,
            presence_pixels=_grown(self.presence_pixels, image),
            presence_pixels_total=_grown(self.presence_pixels_total, image),
        )


def _grown(counts: Integers, pixels: float) -> Any:
    """Add pixels to counts; whole numbers stay exact."""
    return counts + (int(pixels) if float(pixels).is_integer() else pixels)


@dataclass(frozen=True)
class Option:
    """An option of a scheme: its name, its default and what it means."""

    name: str
    default: Any
    meaning: str


@dataclass(frozen=True)
class Scheme:
    """What is known of a scheme before it is used.

    Attributes
    ----------
    name, summary, formula, tex, source : for people; ``tex`` is the formula as TeX.
    absent : what the formula does to a class without pixels.
    kind : what it gives, a key of :data:`fastcounts.weights.KINDS`.
    presence : it needs to know in which images each class occurs (with its default options).
    items : it needs the table of counts per image.
    published : normalisation of the scale in which it was published; None is the formula's own.
    per_output : its values depend on how many classes there are, seen or not; or the names of the
        options that make them.
    options : in the order of the function.
    raw : the function itself.
    """

    name: str
    summary: str
    formula: str
    tex: str
    source: str
    absent: str
    kind: str
    presence: bool
    items: bool
    published: str | None
    per_output: bool | str
    options: tuple[Option, ...]
    raw: Callable[..., Floats] = field(repr=False)


_REGISTER: dict[str, Scheme] = {}


def scheme(
    *,
    formula: str,
    tex: str,
    source: str,
    absent: str,
    kind: str = "weight",
    needs: Literal["pixels", "presence", "items"] = "pixels",
    published: str | None = None,
    per_output: bool | str = False,
    **meanings: str,
) -> Callable[[Callable[..., Floats]], Callable[..., Floats]]:
    """Add a scheme to the register under the name of its function.

    Options are the keyword arguments of the function; ``meanings`` says what each means. The
    summary is the first line of the docstring.
    """

    def add(function: Callable[..., Floats]) -> Callable[..., Floats]:
        parameters = list(inspect.signature(function).parameters.values())[1:]
        options = tuple(Option(p.name, p.default, meanings.pop(p.name)) for p in parameters)
        if meanings:
            raise TypeError(f"{function.__name__} has no option {', '.join(meanings)}")
        summary = (function.__doc__ or "").strip().splitlines()[0]
        _REGISTER[function.__name__] = Scheme(
            name=function.__name__,
            summary=summary,
            formula=formula,
            tex=tex,
            source=source,
            absent=absent,
            kind=kind,
            presence=needs == "presence",
            items=needs == "items",
            published=published,
            per_output=per_output,
            options=options,
            raw=function,
        )
        return function

    return add


def schemes() -> tuple[Scheme, ...]:
    """Every scheme there is.

    Examples
    --------
    >>> [known.name for known in schemes()][:2]
    ['uniform', 'inverse']
    """
    return tuple(_REGISTER.values())


def describe_scheme(name: str) -> Scheme:
    """Record of one scheme.

    Raises
    ------
    UnknownScheme : no scheme has that name; the message lists those there are.

    Examples
    --------
    >>> describe_scheme("enet").formula
    '1 / ln(c + p)'
    """
    if name in _REGISTER:
        return _REGISTER[name]
    near = difflib.get_close_matches(str(name), _REGISTER, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    raise UnknownScheme(f"no scheme {name!r}{meant} There are: {', '.join(_REGISTER)}")


def read_option(text: str) -> Any:
    """Value of an option as it stands on a command line.

    Numbers, ``true``, ``false``, ``none`` and lists are read as such; anything else is text.

    Examples
    --------
    >>> read_option("1.02"), read_option("true"), read_option("[1, 2]"), read_option("keras")
    (1.02, True, [1, 2], 'keras')
    """
    word = text.strip()
    known = {"true": True, "false": False, "none": None, "null": None}
    if word.lower() in known:
        return known[word.lower()]
    try:
        return json.loads(word)
    except ValueError:
        return word


def solve(
    counts: Counts,
    scheme: str,
    *,
    normalize: str | None = None,
    cap: float | None = None,
    absent: str = "raise",
    num_classes: int | None = None,
    **options: Any,
) -> Weights:
    """Weights from counts.

    The order is fixed: raw values of the scheme, cap, absent classes, normalisation.

    Parameters
    ----------
    counts : from :func:`fastcounts.count`, or :meth:`fastcounts.Counts.from_pixels`.
    scheme : a name; ``fastcounts schemes`` lists them.
    normalize : which of ``"pixel_mean"``, ``"mean"``, ``"sum"``, ``"max"`` and ``"min"`` is made 1;
        None keeps the scale in which the scheme was published.
    cap : largest over smallest weight.
    absent : what a class without pixels gets: ``"raise"``, ``"max"``, ``"one"``, ``"zero"``,
        ``"smooth"`` or ``"formula"``.
    num_classes : the classes are 0 to ``num_classes - 1``, seen or not.
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
    >>> fc.solve(counts, "inverse", normalize="pixel_mean", cap=10).values.round(6).tolist()
    [0.508475, 1.016949, 3.661017, 5.084746]
    """
    record = describe_scheme(scheme)
    chosen = _options(record, options)
    tally = _tally(counts, num_classes)
    policy, amount = absent_policy(absent, record.kind)
    basis = tally.smoothed(amount) if policy == "smooth" else tally
    if not basis.classes:
        raise AbsentClass("no class has a pixel: count masks that hold some of the classes first")
    with np.errstate(all="ignore"):
        raw = np.asarray(record.raw(basis, **chosen), dtype=np.float64)
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
        diagnostics=_diagnose(counts, tally, values, record, chosen),
        raw=raw,
        published=record.published,
        extends=not _per_output(record, chosen),
    )


def _per_output(record: Scheme, chosen: Mapping[str, Any]) -> bool:
    """Whether the values depend on the number of classes, seen or not."""
    if isinstance(record.per_output, str):
        return any(bool(np.any(chosen[name])) for name in record.per_output.split())
    return record.per_output


def _options(record: Scheme, given: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults, and over them what was given."""
    known = {option.name: option.default for option in record.options}
    for name in given:
        if name not in known:
            there = f"it has {', '.join(known)}" if known else "it has none"
            raise OptionError(f"{record.name} has no option {name!r}: {there}")
    return known | dict(given)


def _tally(counts: Counts, num_classes: int | None) -> Tally:
    if not hasattr(counts, "ledger"):
        raise OptionError(
            f"a {type(counts).__name__} is no Counts: make one with Counts.from_pixels({{label: "
            "pixels, ...})"
        )
    tally = Tally.of(counts)
    return tally if num_classes is None else tally.with_classes(num_classes)


def _diagnose(
    counts: Counts, tally: Tally, values: Floats, record: Scheme, chosen: Mapping[str, Any]
) -> dict[str, Any]:
    """Diagnostics of weights; other kinds have no constant predictors to compare."""
    if record.kind != "weight" or not (values[tally.present] > 0).any():
        return {}
    found = diagnostics.describe(tally.pixels, values)
    stated = _stated_costs(tally, values, record, chosen)
    if stated:
        found["stated_costs"] = stated
    costs = stated.get("after", found["implied_prior"])[tally.present]
    found["exact"] = bool(np.ptp(costs) <= 1e-9 * max(float(np.abs(costs).max()), 1e-300))
    places = np.flatnonzero(np.isin(tally.labels, counts.labels))
    found["flags"] = diagnostics.flags(counts, values[places])
    found["images"] = diagnostics.of_images(counts)
    for name, column in found["images"].items():
        if name != "missing":
            wide = np.full(values.size, np.nan if name == "log_weight_errors" else 0.0)
            wide[places] = column
            found["images"][name] = wide
    return found


def _stated_costs(
    tally: Tally, values: Floats, record: Scheme, chosen: Mapping[str, Any]
) -> dict[str, Floats]:
    """Costs of the constant answers, where they are not those of plain cross entropy."""
    alpha = chosen.get("alpha" if record.name == "label_smoothing" else "label_smoothing", 0)
    if record.name == "label_smoothing" or (alpha and chosen["framework"] == "torch"):
        pixels = smoothed_pixels(tally, alpha)
        return {
            when: diagnostics.constant_predictors(pixels, weights).by_pixels
            for when, weights in (("before", np.ones(values.shape)), ("after", values))
        }
    if record.name != "equal_cost":
        return {}
    costs = answer_costs(tally, chosen["eps"], chosen["costs"])
    if costs is None:
        return {}
    share = implied_prior(tally.pixels, values)
    return {"before": costs @ tally.frequencies, "after": costs @ share}


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
    images = _images(tally, record.name)
    values = finish(
        raw, images.sum(axis=1), kind="item", cap=cap, absent=absent, normalize=normalize
    )
    if absent == "raise" and not tally.present.all():
        missing = np.array(tally.called())[~tally.present].tolist()
        raise AbsentClass(
            f"no pixels of class {', '.join(missing[:8])}: absent='zero' leaves such classes out"
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


@dataclass(frozen=True)
class Intervals:
    """Bootstrap confidence intervals of weights.

    Attributes
    ----------
    labels : (K,) the classes.
    low, high : (K,) float64; infinite where too many replicates held no image of the class.
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
    chosen = _options(record, options)
    if record.kind != "weight":
        raise OptionError(f"{scheme} gives a {record.kind}: bootstrap a scheme that gives weights")
    edge = (1 - _number("level", level, low=0, high=1)) / 2
    rounds = int(_at_least("replicates", replicates, 1))
    tally = _tally(counts, None)
    images = _images(tally, "bootstrap")
    draw = np.random.default_rng(seed)
    found = np.empty((rounds, tally.labels.size))
    for row in found:
        times = np.bincount(draw.integers(len(images), size=len(images)), minlength=len(images))
        again = _redrawn(tally, images, times)
        with np.errstate(all="ignore"):
            raw = np.asarray(record.raw(again, **chosen), dtype=np.float64)
        row[:] = finish(
            raw, again.pixels, cap=cap, absent="zero", normalize=normalize or record.published
        )
        row[~again.present] = np.inf
    bounds = np.quantile(found, [edge, 1 - edge], axis=0, method="inverted_cdf")
    return Intervals(
        tally.labels, bounds[0], bounds[1], np.isinf(found).mean(axis=0), level, rounds
    )


def _redrawn(tally: Tally, images: Integers, times: Integers) -> Tally:
    """Statistics of the data set in which each image occurs so many times."""
    held = images > 0
    inside = (held * images.sum(axis=1)[:, None]).T @ times
    return replace(
        tally,
        pixels=images.T @ times,
        items=int(times.sum()),
        presence=held.T @ times,
        presence_pixels=inside,
        presence_pixels_total=inside,
    )


def _number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """Read an option that is a number strictly between two others."""
    good = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not good or not low < value < high:
        wanted = "a finite number" if low == -math.inf else f"a number above {low:g}"
        wanted += "" if high == math.inf else f" and below {high:g}"
        raise OptionError(f"{name}={value!r}: give {wanted}")
    return float(value)


def _at_least(name: str, value: Any, low: float, below: float = math.inf) -> float:
    """Read an option that is a number from ``low`` on."""
    if isinstance(value, int | float | np.number) and value == low:
        return float(low)
    return _number(name, value, low, below)


def _per_class(name: str, value: Any, tally: Tally) -> Floats:
    """Read an option that is one number a class."""
    labels = tally.labels.tolist()
    if isinstance(value, Mapping):
        given = {int(label): number for label, number in value.items()}
        if sorted(given) != labels:
            raise OptionError(f"{name} is for the labels {sorted(given)}: the classes are {labels}")
        value = [given[label] for label in labels]
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != (len(labels),) or not np.isfinite(numbers).all():
        raise OptionError(
            f"{name}={value!r}: give {len(labels)} finite numbers, one a class in the order of the "
            f"labels {labels[:8]}{'...' if len(labels) > 8 else ''}"
        )
    return numbers


def _shares(tally: Tally, void: Any) -> Floats:
    """Frequencies of the classes, ignored pixels in the denominator or not."""
    every = tally.counted + (tally.void if _flag("void", void) else 0)
    return np.asarray(tally.pixels / every)


def _flag(name: str, value: Any) -> bool:
    """Read an option that is yes or no."""
    if not isinstance(value, bool | np.bool_):
        raise OptionError(f"{name}={value!r}: give True or False")
    return bool(value)


def _choice(name: str, value: Any, *allowed: str) -> str:
    """Read an option that is one of a few words."""
    if value not in allowed:
        raise OptionError(f"{name}={value!r}: give one of {', '.join(allowed)}")
    return str(value)


@scheme(
    formula="1",
    tex=r"1",
    source="no weights",
    absent="1",
)
def uniform(tally: Tally) -> Floats:
    """Leave the loss as it is: every pixel counts the same."""
    return np.ones(tally.labels.size)


@scheme(
    formula="max(n) / n",
    tex=r"\frac{\max_j n_j}{n_c}",
    source="the plainest form of inverse frequency; the largest class weighs 1",
    absent="infinite",
)
def inverse(tally: Tally) -> Floats:
    """Largest count over the count of the class: 1 for the largest class."""
    return np.asarray(tally.pixels.max() / tally.pixels)


@scheme(
    formula="N / (K * n)",
    tex=r"\frac{N}{K\,n_c}",
    source="King and Zeng (2001), Political Analysis 9(2), 137-163; 'balanced' of scikit-learn",
    absent="infinite; K counts the classes that have pixels",
)
def balanced(tally: Tally) -> Floats:
    """Inverse frequency on the scale that keeps the mean over the pixels at 1."""
    return np.asarray(1 / (tally.frequencies * tally.classes))


@scheme(
    formula="p ** -exponent",
    tex=r"p_c^{-\gamma}",
    source="folklore; the square root as in Mahajan et al. (2018), arXiv:1805.00932",
    absent="infinite",
    exponent="0 gives no weights, 0.5 the square root, 1 inverse frequency",
)
def power(tally: Tally, *, exponent: float = 0.5) -> Floats:
    """Frequency to a negative power: half-way between no weights and inverse frequency."""
    return np.asarray(tally.frequencies ** -_at_least("exponent", exponent, 0))


@scheme(
    formula="median(f) / f, with f = n / (pixels of the images that contain the class)",
    tex=r"\frac{\operatorname{median}_j f_j}{f_c},\quad f_c = \frac{n_c}{P_c}",
    source="Eigen and Fergus (2015), arXiv:1411.4734, section 6.3.2; SegNet",
    absent="undefined, and left out of the median",
    needs="presence",
    presence="f is taken over the images that contain the class, not over all",
    void="ignored pixels are part of the denominators of f",
    void_in_median="the ignored labels are classes to the median, though they get no weight",
    of="'frequencies': median(f) / f; 'inverses': (1 / f) / median(1 / f); they differ for even K",
)
def median_frequency(
    tally: Tally,
    *,
    presence: bool = True,
    void: bool = False,
    void_in_median: bool = False,
    of: Literal["frequencies", "inverses"] = "frequencies",
) -> Floats:
    """Frequency of the class in the images that contain it, against the median of all."""
    everywhere = tally.counted + tally.void
    if _flag("presence", presence):
        tally.need_presence("median_frequency (with presence=True)")
        held: Any = tally.presence_pixels_total if _flag("void", void) else tally.presence_pixels
        ignored = [pixels / images for pixels, images in tally.ignored if pixels]
    else:
        held = everywhere if _flag("void", void) else tally.counted
        ignored = [pixels / everywhere for pixels, _ in tally.ignored if pixels]
    frequency = np.asarray(tally.pixels / held)
    seen = frequency[tally.present]
    if _flag("void_in_median", void_in_median):
        seen = np.append(seen, ignored)
    if _choice("of", of, "frequencies", "inverses") == "frequencies":
        return np.asarray(np.median(seen) / frequency)
    return np.asarray(1 / (frequency * np.median(1 / seen)))


@scheme(
    formula="1 / ln(c + p)",
    tex=r"\frac{1}{\ln(c + p_c)}",
    source="Paszke et al. (2016), ENet, arXiv:1606.02147, section 5.2",
    absent="finite, 1 / ln(c): 50.5 for c = 1.02",
    c="above 1; the weights lie between 1 / ln(c + 1) and 1 / ln(c). ERFNet and CGNet take 1.10",
    void="ignored pixels are part of N in p = n / N, as in the table of ERFNet",
)
def enet(tally: Tally, *, c: float = 1.02, void: bool = False) -> Floats:
    """Bounded inverse of the logarithm of the frequency."""
    return np.asarray(1 / np.log(_number("c", c, low=1) + _shares(tally, void)))


@scheme(
    formula="max(1, ln(mu * N / n))",
    tex=r"\max\left(1, \ln\frac{\mu N}{n_c}\right)",
    source="the create_class_weight function that Keras users hand on",
    absent="infinite",
    mu="above 0; the smaller, the more classes sit on the floor of 1",
)
def log_inverse(tally: Tally, *, mu: float = 0.15) -> Floats:
    """Logarithm of the inverse frequency, with a floor of 1."""
    return np.maximum(1.0, np.log(_number("mu", mu, low=0) / tally.frequencies))


@scheme(
    formula="1 / (p + eps)",
    tex=r"\frac{1}{p_c + \varepsilon}",
    source="RangeNet++ and SalsaNext on SemanticKITTI (0.001), RandLA-Net (0.02)",
    absent="finite, 1 / eps",
    eps="above 0; no weight exceeds 1 / eps",
    void="ignored pixels are part of N in p = n / N, as in the table of SemanticKITTI",
)
def inverse_offset(tally: Tally, *, eps: float = 0.001, void: bool = False) -> Floats:
    """Inverse frequency, bounded by an offset."""
    return np.asarray(1 / (_shares(tally, void) + _number("eps", eps, low=0)))


@scheme(
    formula="-ln(p)",
    tex=r"-\ln p_c",
    source="self-information of the class, in nats",
    absent="infinite",
)
def neg_log(tally: Tally) -> Floats:
    """Surprise of meeting the class; 0 where there is no other."""
    return np.asarray(0.0 - np.log(tally.frequencies))


@scheme(
    formula="1 - p",
    tex=r"1 - p_c",
    source="folklore; barely weighs anything when there are many classes",
    absent="finite, 1",
)
def one_minus(tally: Tally) -> Floats:
    """Share of all other classes."""
    return np.asarray(tally.others / tally.counted)


@scheme(
    formula="1 / ln(n), scaled to mean 1",
    tex=r"\frac{1}{\ln n_c}",
    source="the Cityscapes weights of OCNet and HRNet, 0.8373, 0.918, ... (inferred from them)",
    absent="0; infinite for a class of one pixel. Depends on the size of the data set",
    published="mean",
)
def inverse_log_count(tally: Tally) -> Floats:
    """Inverse of the logarithm of the count: changes when the same data are counted twice."""
    return np.asarray(0.0 + 1 / np.log(tally.pixels))


@scheme(
    formula="(1 - beta) / (1 - beta ** n), scaled to mean 1",
    tex=r"\frac{1-\beta}{1-\beta^{n_c}}",
    source="Cui et al. (2019), Class-balanced loss, arXiv:1901.05555",
    absent="undefined",
    published="mean",
    beta="between 0 (no weights) and 1 (inverse frequency); the paper takes 0.9 to 0.9999",
    prototypes="1 / (1 - beta) instead of beta; None for both takes the pixels that were counted",
    of="'pixels', or 'presence' to put the images that contain the class in the place of n",
)
def effective_number(
    tally: Tally,
    *,
    beta: float | None = None,
    prototypes: float | None = None,
    of: Literal["pixels", "presence"] = "pixels",
) -> Floats:
    """Inverse of the effective number of samples, which never exceeds 1 / (1 - beta)."""
    samples = tally.pixels
    if _choice("of", of, "pixels", "presence") == "presence":
        tally.need_presence("effective_number (with of='presence')")
        samples = tally.presence
    most = _prototypes(beta, prototypes, float(samples.sum(dtype=np.float64)))
    if samples[tally.present].min() > 5 * most:
        warnings.warn(
            f"every class has more than 5 times the {most:g} prototypes: all effective numbers are "
            "the same and nothing is weighted; give more prototypes=, or of='presence'",
            stacklevel=3,
        )
    return np.asarray(-1 / (most * np.expm1(samples * np.log1p(-1 / most))))


def _prototypes(beta: float | None, prototypes: float | None, samples: float) -> float:
    """Most that an effective number can be."""
    if beta is not None and prototypes is not None:
        raise OptionError("beta and prototypes are the same thing: give one of them")
    if beta is not None:
        return 1 / (1 - _at_least("beta", beta, 0, below=1))
    return samples if prototypes is None else _at_least("prototypes", prototypes, 1)


@scheme(
    formula="prior * N / n",
    tex=r"\frac{\pi^*_c N}{n_c}",
    source="King and Zeng (2001), Political Analysis 9(2), 137-163",
    absent="no weight gives it a share; its prior is dealt out to the others in proportion",
    prior="one number a class in label order, or {label: number}; made to sum to 1",
)
def target_prior(tally: Tally, *, prior: Any = None) -> Floats:
    """Make training see the class prior that is named, that of deployment for example."""
    wanted = _per_class("prior", prior, tally)
    return weights_from_prior(tally.pixels, np.where(tally.present, wanted, 0))


@scheme(
    formula="1 / n**2",
    tex=r"\frac{1}{n_c^2}",
    source="Sudre et al. (2017), generalised Dice, arXiv:1707.03237; there from every batch anew",
    absent="infinite",
)
def generalised_dice(tally: Tally) -> Floats:
    """Inverse square of the count, for a Dice loss; does not make constant answers cost equal."""
    return np.asarray(tally.pixels.astype(np.float64) ** -2)


@scheme(
    formula="ln((1 + B) / (1 + df)) + 1, or ln(B / df)",
    tex=r"\ln\frac{1+B}{1+\mathrm{df}_c} + 1",
    source="inverse document frequency of information retrieval, an image for a document",
    absent="ln(1 + B) + 1, or infinite without smoothing",
    needs="presence",
    smooth="False gives ln(B / df), which is 0 for a class that is in every image",
)
def idf(tally: Tally, *, smooth: bool = True) -> Floats:
    """Rarity among images, whatever the number of pixels."""
    tally.need_presence("idf")
    if _flag("smooth", smooth):
        return np.asarray(np.log((1 + tally.items) / (1 + tally.presence)) + 1)
    return np.asarray(np.log(tally.items / tally.presence))


@scheme(
    formula="1 / ((1 - alpha) * n + alpha * N / K), scaled so that the mean over the pixels is 1",
    tex=r"\frac{1}{(1-\alpha)\,n_c + \alpha N / K}",
    source="derived from torch's CrossEntropyLoss(label_smoothing=alpha), which weighs the smoothed"
    " part by the weights of all classes",
    absent="finite",
    published="pixel_mean",
    per_output=True,
    alpha="what CrossEntropyLoss gets as label_smoothing, from 0 to below 1",
)
def label_smoothing(tally: Tally, *, alpha: float = 0.1) -> Floats:
    """Equal cost under the label smoothing of torch; that of Keras needs no such correction."""
    return np.asarray(1 / smoothed_pixels(tally, _at_least("alpha", alpha, 0, below=1)))


@scheme(
    formula="(N - n) / n",
    tex=r"\frac{N - n_c}{n_c}",
    source="the pos_weight of torch.nn.BCEWithLogitsLoss: negatives over positives of each channel",
    absent="infinite",
    kind="pos_weight",
)
def pos_weight(tally: Tally) -> Floats:
    """Weight of the positive term of a sigmoid channel: always on costs as much as always off."""
    return np.asarray(tally.others / tally.pixels)


@scheme(
    formula="tau * ln(p) while training; -tau * ln(p) afterwards",
    tex=r"\tau \ln p_c",
    source="Menon et al. (2021), Long-tail learning via logit adjustment, arXiv:2007.07314",
    absent="minus infinity while training; afterwards it would win everywhere, so mask it",
    kind="bias",
    tau="above 0; 1 is the choice that theory gives",
    post_hoc="the bias for the logits of a model that was trained without",
)
def logit_adjustment(tally: Tally, *, tau: float = 1.0, post_hoc: bool = False) -> Floats:
    """Logarithm of the prior, added to the logits."""
    bias = _number("tau", tau, low=0) * np.log(tally.frequencies)
    return np.asarray(0.0 - bias if _flag("post_hoc", post_hoc) else bias)


@scheme(
    formula="ln(n), while training only",
    tex=r"\ln n_c",
    source="Ren et al. (2020), Balanced meta-softmax, arXiv:2007.10740",
    absent="minus infinity: the class takes no part",
    kind="bias",
)
def balanced_softmax(tally: Tally) -> Floats:
    """Logarithm of the count, added to the logits while training."""
    return np.asarray(np.log(tally.pixels))


@scheme(
    formula="largest * (min(n) / n) ** (1 / 4)",
    tex=r"\Delta_{\max}\left(\frac{\min_j n_j}{n_c}\right)^{1/4}",
    source="Cao et al. (2019), LDAM, arXiv:1906.07413; logits are scaled by 30 there",
    absent="infinite",
    kind="margin",
    largest="margin of the rarest class",
)
def ldam(tally: Tally, *, largest: float = 0.5) -> Floats:
    """Margins by which the true class must win, larger where examples are few."""
    fewest = tally.pixels[tally.present].min()
    return np.asarray(_number("largest", largest, low=0) * (fewest / tally.pixels) ** 0.25)


@scheme(
    formula="m / n, with masses m that solve C m = x; m is the same for all classes by default",
    tex=r"\frac{m_c}{n_c},\quad C m = x \mathbf 1",
    source="the condition itself: always answering class i costs the same for every i",
    absent="0: no weight of it changes the cost of a constant answer; the policy decides",
    published="pixel_mean",
    per_output="eps label_smoothing",
    eps="how much probability a constant answer leaves to the others, one number a class; equal for"
    " all (None), it makes no difference",
    costs="K x K matrix: costs[i][j] of answering i where j is true; None for equal costs",
    floor="where no masses meet the costs: the least mass a class gets, in parts of 1 / K; None"
    " refuses",
    objective="with a floor: 'maximin' makes the cheapest answer dear, 'spread' the range small",
    label_smoothing="what the loss gets as label_smoothing, from 0 to below 1",
    framework="whose label smoothing: 'keras' changes nothing; 'torch' weighs the smoothed part by"
    " the weights of all classes, as the scheme label_smoothing",
    per_image="equal under torch's weighted mean in batches of one image, which divides by the"
    " weights of the batch; needs keep_items",
)
def equal_cost(
    tally: Tally,
    *,
    eps: Any = None,
    costs: Any = None,
    floor: float | None = None,
    objective: Literal["maximin", "spread"] = "maximin",
    label_smoothing: float = 0.0,
    framework: Literal["keras", "torch"] = "keras",
    per_image: bool = False,
) -> Floats:
    """Every constant answer costs the same: the only such weights, up to their scale."""
    smoothed = _at_least("label_smoothing", label_smoothing, 0, below=1) > 0
    by_torch = _choice("framework", framework, "keras", "torch") == "torch" and smoothed
    if sum((eps is not None, costs is not None, _flag("per_image", per_image), by_torch)) > 1:
        raise OptionError(
            "eps, costs, per_image and the label smoothing of torch exclude each other: give one"
        )
    if per_image:
        return per_image_weights(_images(tally, "equal_cost (with per_image=True)"), tally.called())
    if by_torch:
        return np.asarray(1 / smoothed_pixels(tally, label_smoothing))
    matrix = answer_costs(tally, eps, costs)
    masses = np.ones(tally.labels.size)
    if matrix is not None:
        held = tally.present
        names = [name for name, here in zip(tally.called(), held, strict=True) if here]
        least = None if floor is None else _at_least("floor", floor, 0, below=1 + 1e-12)
        _choice("objective", objective, "maximin", "spread")
        masses[held] = equal_masses(matrix[np.ix_(held, held)], names, least, objective)
    return weights_from_prior(tally.pixels, np.where(tally.present, masses, 0))


def smoothed_pixels(tally: Tally, alpha: float) -> Floats:
    """Pixels of every class under torch's label smoothing: ``(1 - alpha) n + alpha N / K``."""
    return np.asarray((1 - alpha) * tally.pixels + alpha * tally.counted / tally.labels.size)


def answer_costs(tally: Tally, eps: Any = None, costs: Any = None) -> Floats | None:
    """Matrix of what each constant answer costs on each class; None where the costs are equal.

    Parameters
    ----------
    tally : the classes.
    eps : what each answer leaves to the other classes, one number a class.
    costs : (K, K) the matrix itself.

    Raises
    ------
    OptionError : numbers of another shape, or none that are costs.
    """
    size = tally.labels.size
    if costs is not None:
        try:
            matrix = np.asarray(costs, dtype=np.float64)
        except (TypeError, ValueError):
            matrix = np.empty(0)
        if matrix.shape != (size, size) or not np.isfinite(matrix).all():
            raise OptionError(
                f"costs: give {size} rows of {size} finite numbers, costs[i][j] for answering "
                "class i where class j is true, in the order of the labels"
            )
        return matrix
    if eps is None:
        return None
    left = _per_class("eps", eps, tally)
    if not ((left > 0) & (left < 1)).all() or size < 2:
        raise OptionError(f"eps={eps!r}: give numbers between 0 and 1, for two classes or more")
    matrix = np.repeat(-np.log(left / (size - 1))[:, None], size, axis=1)
    np.fill_diagonal(matrix, -np.log1p(-left))
    return matrix


def equal_masses(
    costs: Floats,
    names: list[str],
    floor: float | None = None,
    objective: str = "maximin",
) -> Floats:
    """Weighted masses of the classes under which every constant answer costs the same.

    Solves ``costs @ m = x`` for ``m >= 0`` of sum 1, by a closed form where there is one, else by
    the solution nearest to equal masses. Where nothing solves it, ``floor`` gives the best that can
    be had with every mass at least ``floor / K``.

    Parameters
    ----------
    costs : (K, K) cost of answering i where j is true.
    names : (K,) for errors.
    floor : between 0 and 1, or None to refuse what has no exact solution.
    objective : ``"maximin"``: the cheapest answer costs as much as it can; ``"spread"``: the
        dearest costs as little more as it can.

    Returns
    -------
    (K,) float64 of sum 1.

    Raises
    ------
    InfeasibleCosts : no masses meet the costs and there is no floor.
    MissingExtra : the linear programme needs SciPy.

    Examples
    --------
    >>> import numpy as np
    >>> costs = np.array([[0, 1, 4, 4], [1, 0, 4, 4], [2, 2, 0, 1], [2, 2, 1, 0]])
    >>> equal_masses(costs, list("abcd")).round(6).tolist()
    [0.35, 0.35, 0.15, 0.15]
    """
    masses: Floats | None = _closed_form(costs)
    if masses is None:
        masses = _nearest(costs, np.full(len(costs), 1 / len(costs)))
    if masses is None or masses.min() < -_TINY:
        masses = _among_many(costs)
    if masses is not None:
        held = np.maximum(masses, 0)
        return np.asarray(held / held.sum())
    if floor is None:
        raise InfeasibleCosts(_why_infeasible(costs, names))
    return _programme(costs, floor, objective)


_TINY = 1e-12


def _closed_form(costs: Floats) -> Floats | None:
    """Exact, positive answers for costs of a simple structure."""
    size = len(costs)
    right = np.diag(costs)
    rows = costs.sum(axis=1)
    if np.allclose(rows, rows[0], rtol=1e-14, atol=0) or size == 1:
        return np.full(size, 1 / size)
    off = ~np.eye(size, dtype=bool)
    by_truth = np.where(off, costs, -np.inf).max(axis=0)
    by_answer = np.where(off, costs, -np.inf).max(axis=1)
    if np.array_equal(costs[off], np.broadcast_to(by_truth, costs.shape)[off]):
        gain = by_truth - right
        return 1 / gain / (1 / gain).sum() if (gain > 0).all() else None
    if np.array_equal(costs[off], np.broadcast_to(by_answer[:, None], costs.shape)[off]):
        gain = by_answer - right
        if (gain > 0).all():
            common = ((by_answer / gain).sum() - 1) / (1 / gain).sum()
            return np.asarray((by_answer - common) / gain)
    return None


def _nearest(costs: Floats, start: Floats) -> Floats | None:
    """Masses of sum 1 that cost the same, as near to ``start`` as can be; of any sign."""
    centred = costs - costs.mean(axis=0)
    scale = max(float(np.abs(centred).max()), _TINY)
    system = np.vstack([centred / scale, np.ones(len(costs))])
    wanted = np.append(-centred @ start / scale, 0.0)
    step = np.linalg.lstsq(system, wanted, rcond=None)[0]
    solved = np.allclose(system @ step, wanted, rtol=0, atol=1e-10)
    return np.asarray(start + step) if solved else None


def _among_many(costs: Floats) -> Floats | None:
    """Nonnegative masses where the costs leave a choice: those whose least is largest."""
    if np.linalg.matrix_rank(np.vstack([costs - costs.mean(axis=0), np.ones(len(costs))])) == len(
        costs
    ):
        return None
    optimize = _scipy_optimize()
    size = len(costs)
    centred = costs - costs.mean(axis=0)
    scale = max(float(np.abs(centred).max()), _TINY)
    system = np.vstack([centred / scale, np.ones(size)])
    _, residual = optimize.nnls(system, np.append(np.zeros(size), 1.0))
    if residual > 1e-9:
        return None
    found = optimize.linprog(
        np.append(np.zeros(size), -1.0),
        A_ub=np.hstack([-np.eye(size), np.ones((size, 1))]),
        b_ub=np.zeros(size),
        A_eq=np.hstack([system, np.zeros((size + 1, 1))]),
        b_eq=np.append(np.zeros(size), 1.0),
        bounds=[(0, None)] * size + [(None, None)],
    )
    return _nearest(costs, found.x[:size]) if found.success else None


def _programme(costs: Floats, floor: float, objective: str) -> Floats:
    """Best masses where none are exact, each at least ``floor / K``."""
    size = len(costs)
    one, zero = np.ones((size, 1)), np.zeros((size, 1))
    if objective == "maximin":  # maximise t with costs @ m >= t
        goal = np.append(np.zeros(size), -1.0)
        upper = np.hstack([-costs, one])
    else:  # minimise u - l with l <= costs @ m <= u
        goal = np.append(np.zeros(size), [-1.0, 1.0])
        upper = np.vstack([np.hstack([-costs, one, zero]), np.hstack([costs, zero, -one])])
    extra = len(goal) - size
    found = _scipy_optimize().linprog(
        goal,
        A_ub=upper,
        b_ub=np.zeros(len(upper)),
        A_eq=np.append(np.ones(size), np.zeros(extra))[None],
        b_eq=[1.0],
        bounds=[(floor / size, None)] * size + [(None, None)] * extra,
    )
    return np.asarray(found.x[:size], dtype=np.float64)


def _scipy_optimize() -> Any:
    try:
        from scipy import optimize
    except ImportError as error:
        raise MissingExtra("costs that no formula solves need SciPy", "solve") from error
    return optimize


def _why_infeasible(costs: Floats, names: list[str]) -> str:
    """Name an answer that is always cheaper than another, if there is one."""
    advice = "floor=0.1 gives the best weights there are, with every class at a tenth of 1 / K"
    for cheap, row in enumerate(costs):
        for dear in np.flatnonzero((costs > row).all(axis=1)):
            return (
                f"always answering {names[cheap]} costs less than always answering {names[dear]} "
                f"whatever is true, so no weights make them equal: correct the costs, or {advice}"
            )
    return (
        "no nonnegative weights make all constant answers cost the same under these costs: one "
        f"class would need a negative one. Bring the costs closer together, or {advice}"
    )


def _images(tally: Tally, why: str) -> Integers:
    """(items, K) pixels of every class in every image."""
    if tally.table is None or not len(tally.table):
        raise PresenceNeeded(
            f"{why} needs the pixels of every class in every image: count with items= and "
            "keep_items=True"
        )
    return np.asarray(tally.table.dense(tally.labels.tolist()))


def per_image_weights(images: Integers, names: list[str], *, tolerance: float = 1e-12) -> Floats:
    """Weights of equal cost where the loss of each image is divided by the image's own weights.

    ``mean over images of w[i] n[b, i] / sum(w n[b])`` is made ``1 / K`` for every class, by
    Sinkhorn's iteration: the images scaled to equal sums, then the classes, until both hold.

    Parameters
    ----------
    images : (B, K) pixels of every class in every image.
    names : (K,) for errors.
    tolerance : on the shares.

    Returns
    -------
    (K,) float64 of mean 1 over the classes that have pixels; 0 for the others.

    Raises
    ------
    InfeasibleCosts : a class is in fewer than 1 / K of the images, or the iteration does not
        settle because no weights do it.

    Notes
    -----
    Sinkhorn (1967); a scaling exists where a matrix with the same zeros has the wanted sums
    (Menon 1968; Rothblum and Schneider 1989).

    Examples
    --------
    >>> import numpy as np
    >>> images = np.array([[60, 30, 10, 0], [80, 20, 0, 0], [40, 40, 15, 5]])
    >>> per_image_weights(images, list("abcd")).round(6).tolist()
    [0.012669, 0.038945, 0.270965, 3.677421]
    """
    held = images.sum(axis=0) > 0
    rows = images[images.sum(axis=1) > 0][:, held].astype(np.float64)
    called = [name for name, here in zip(names, held, strict=True) if here]
    size = len(called)
    in_images = (rows > 0).mean(axis=0)
    if (in_images < 1 / size).any():
        rare = int(in_images.argmin())
        raise InfeasibleCosts(
            f"class {called[rare]} is in {in_images[rare]:.2%} of the images, and its share of the "
            f"loss can be no more than that, not 1 / {size}: larger batches, or divide by the "
            "pixels (reduction='sum') and leave out per_image"
        )
    weights = size / rows.sum(axis=0)
    for _ in range(20_000):
        mass = rows * weights
        shares = (mass / mass.sum(axis=1, keepdims=True)).mean(axis=0)
        if np.abs(shares * size - 1).max() < tolerance:
            values = np.zeros(held.size)
            values[held] = weights / weights.mean()
            return values
        weights = weights / (shares * size)
        weights /= weights.mean()
    worst = int(np.abs(shares * size - 1).argmax())
    raise InfeasibleCosts(
        f"no weights give every class its share in batches of one image: class {called[worst]} "
        f"comes to {shares[worst]:.4f} and should be {1 / size:.4f}, since the images that hold it "
        "hold too little else, or too much. Use larger batches, or leave out per_image"
    )


@scheme(
    formula="max over the classes of the image of max(1, sqrt(threshold / f)), f = df / B",
    tex=r"\max_{c \in I} \max\left(1, \sqrt{\frac{t}{\mathrm{df}_c / B}}\right)",
    source="Gupta, Dollar and Girshick (2019), LVIS, arXiv:1908.03195; detectron2",
    absent="no image holds it: it plays no part",
    kind="item",
    needs="items",
    threshold="classes in a smaller part of the images than this are repeated",
)
def repeat_factor(tally: Tally, *, threshold: float = 0.001) -> Floats:
    """How often an epoch shows each image, so that images with rare classes come again."""
    images = _images(tally, "repeat_factor") > 0
    part = images.sum(axis=0) / len(images)
    factors = np.maximum(1.0, np.sqrt(_number("threshold", threshold, low=0) / part))
    return np.asarray(np.where(images, factors, 1.0).max(axis=1, initial=1.0))


@scheme(
    formula="sum over classes of softmax((1 - p) / T), shared by the images with enough of it",
    tex=r"\sum_c \frac{\operatorname{softmax}_c((1 - p_c) / T)}{|\{I : n_{Ic} > n_{\min}\}|}",
    source="Hoyer, Dai and Van Gool (2022), DAFormer, arXiv:2111.14887",
    absent="it would ask for images that are not there; under absent='zero' it plays no part",
    kind="item",
    needs="items",
    temperature="the smaller, the more the rarest class is preferred",
    min_pixels="an image counts for a class where it holds more pixels of it than these",
)
def rare_class(tally: Tally, *, temperature: float = 0.01, min_pixels: int = 3000) -> Floats:
    """Chance of drawing each image: a rare class first, then one of the images that hold it."""
    least = _at_least("min_pixels", min_pixels, 0)
    enough = (_images(tally, "rare_class") > least)[:, tally.present]
    holders = enough.sum(axis=0)
    if (holders == 0).any():
        names = np.array(tally.called())[tally.present][holders == 0]
        raise SolveError(
            f"no image holds more than {least:g} pixels of class {', '.join(names[:8])}: lower "
            "min_pixels, or fold the class into another"
        )
    chance = rare_class_chances(tally.frequencies[tally.present], temperature)
    return np.asarray(enough @ (chance / holders))


def rare_class_chances(frequencies: npt.ArrayLike, temperature: float = 0.01) -> Floats:
    """Chance that DAFormer's sampling draws each class: ``softmax((1 - p) / temperature)``.

    Parameters
    ----------
    frequencies : (K,) share of each class in the pixels.
    temperature : above 0.

    Returns
    -------
    (K,) float64 of sum 1.

    Examples
    --------
    >>> rare_class_chances([0.6, 0.3, 25 / 300, 5 / 300], 0.1).round(6).tolist()
    [0.001859, 0.03734, 0.325946, 0.634855]
    """
    heat = (1 - np.asarray(frequencies)) / _number("temperature", temperature, low=0)
    risen = np.exp(heat - heat.max())
    return np.asarray(risen / risen.sum())


@scheme(
    formula="draws of each image in an epoch of B: part of them class by class, the rest at random",
    tex=r"\sum_{c \in I} \frac{\lfloor B\,q / K \rfloor}{\mathrm{df}_c} + \text{rest} / B",
    source="Zhu et al. (2019), arXiv:1812.01593; NVIDIA semantic-segmentation, there with tiles",
    absent="it would ask for images that are not there; under absent='zero' it plays no part",
    kind="item",
    needs="items",
    part="how much of an epoch is drawn class by class",
    epoch="images in an epoch; None for as many as there are",
)
def class_uniform(tally: Tally, *, part: float = 0.5, epoch: int | None = None) -> Floats:
    """How often an epoch is expected to show each image when the classes take turns."""
    images = _images(tally, "class_uniform") > 0
    images = images[:, images.any(axis=0)]
    size = len(images) if epoch is None else int(_at_least("epoch", epoch, 1))
    each = int(size * _at_least("part", part, 0, below=1 + 1e-12) / images.shape[1])
    rest = size - each * images.shape[1]
    return np.asarray(images @ (each / images.sum(axis=0)) + rest / len(images))
