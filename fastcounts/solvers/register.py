"""The register of schemes: what is known of each before it is used."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fastcounts.errors import OptionError, UnknownScheme
from fastcounts.weights import Floats

if TYPE_CHECKING:
    from fastcounts.solvers.tally import Tally

__all__ = ["Option", "Scheme", "describe_scheme", "scheme", "schemes"]


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
    differentiable : it is a smooth function of the counts, but for single points; a median is not.
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
    differentiable: bool
    options: tuple[Option, ...]
    raw: Callable[..., Floats] = field(repr=False)

    def choose(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Defaults, and over them what was given."""
        known = {option.name: option.default for option in self.options}
        for name in given:
            if name not in known:
                there = f"it has {', '.join(known)}" if known else "it has none"
                raise OptionError(f"{self.name} has no option {name!r}: {there}")
        return known | dict(given)

    def values(self, tally: Tally, chosen: Mapping[str, Any]) -> Floats:
        """Raw values, of any sign and not all finite."""
        with np.errstate(all="ignore"):
            return np.asarray(self.raw(tally, **chosen), dtype=np.float64)

    def depends_on_classes(self, chosen: Mapping[str, Any]) -> bool:
        """Whether the values depend on the number of classes, seen or not."""
        if isinstance(self.per_output, str):
            return any(bool(np.any(chosen[name])) for name in self.per_output.split())
        return self.per_output


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
    differentiable: bool = True,
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
        summary = (function.__doc__ or "").strip().partition("\n")[0]  # -OO leaves none
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
            differentiable=differentiable,
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
    meant = f": did you mean {near[0]!r}?" if near else "."
    raise UnknownScheme(f"no scheme is called {name!r}{meant} There are {', '.join(_REGISTER)}")
