"""Notices: what a user should know about a count that is not an error.

A message that names an argument has it from :func:`fastcounts.messages.argument`, as errors do, so
that it names the argument in Python and the option in the shell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastcounts.messages import in_python, in_shell

__all__ = ["Notice", "note", "warning"]


@dataclass(frozen=True)
class Notice:
    """Something that a user should know about a count.

    Attributes
    ----------
    code : short identifier that programs can test for, such as ``"metadata-nodata"``.
    text : one sentence for people: what was found, where, and what to do. It contains both
        spellings of the arguments that it names.
    severity : ``"warning"`` if the counts may mean something else than the user thinks (an error
        under ``strict``), ``"note"`` if nothing needs to be done.
    """

    code: str
    text: str
    severity: Literal["note", "warning"] = "warning"

    @property
    def message(self) -> str:
        """The sentence, with arguments named as in Python."""
        return in_python(self.text)

    def shell_message(self) -> str:
        """Return the sentence with arguments named as options of the command line."""
        return in_shell(self.text)

    def to_dict(self) -> dict[str, str]:
        """Return the notice in types that JSON has, as it is kept in the provenance."""
        return {"code": self.code, "message": self.message, "severity": self.severity}


def note(code: str, text: str) -> Notice:
    """Make a notice that asks for no action."""
    return Notice(code, text, "note")


def warning(code: str, text: str) -> Notice:
    """Make a notice that is an error under ``strict``."""
    return Notice(code, text, "warning")
