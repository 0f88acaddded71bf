"""Exact pixel counts of every class over every mask, and the loss weights that follow.

The names below are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastcounts import errors
from fastcounts.errors import FastcountsError
from fastcounts.version import __version__

if TYPE_CHECKING:
    from fastcounts import diagnostics, export, solvers
    from fastcounts.class_files import load_classes
    from fastcounts.counts import Counts, load
    from fastcounts.diagnostics import advise
    from fastcounts.engine import Counter, count, count_delayed
    from fastcounts.ledger import Ledger
    from fastcounts.solvers import bootstrap, schemes, solve
    from fastcounts.weights import Weights

__all__ = [
    "Counter",
    "Counts",
    "FastcountsError",
    "Ledger",
    "Weights",
    "__version__",
    "advise",
    "bootstrap",
    "count",
    "count_delayed",
    "diagnostics",
    "errors",
    "export",
    "load",
    "load_classes",
    "schemes",
    "solve",
    "solvers",
]

_HOMES = {
    "Counter": "fastcounts.engine",
    "Counts": "fastcounts.counts",
    "Ledger": "fastcounts.ledger",
    "Weights": "fastcounts.weights",
    "advise": "fastcounts.diagnostics",
    "bootstrap": "fastcounts.solvers",
    "count": "fastcounts.engine",
    "count_delayed": "fastcounts.engine",
    "load": "fastcounts.counts",
    "load_classes": "fastcounts.class_files",
    "schemes": "fastcounts.solvers",
    "solve": "fastcounts.solvers",
}
_MODULES = ("diagnostics", "export", "solvers")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"fastcounts.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
