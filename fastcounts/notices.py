"""Notices: what a user should know about a count that is not an error."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

__all__ = ["Notice", "note", "warning"]


@dataclass(frozen=True)
class Notice:
    """Something that a user should know about a count.

    Attributes
    ----------
    code : short identifier that programs can test for, such as ``"metadata-nodata"``.
    message : one sentence for people: what was found, where, and what to do.
    severity : ``"warning"`` if the counts may mean something else than the user thinks (an error
        under ``strict``), ``"note"`` if nothing needs to be done.
    """

    code: str
    message: str
    severity: Literal["note", "warning"] = "warning"

    def to_dict(self) -> dict[str, str]:
        """Return the notice in types that JSON has, as it is kept in the provenance."""
        return asdict(self)


def note(code: str, message: str) -> Notice:
    """Make a notice that asks for no action."""
    return Notice(code, message, "note")


def warning(code: str, message: str) -> Notice:
    """Make a notice that is an error under ``strict``."""
    return Notice(code, message, "warning")
