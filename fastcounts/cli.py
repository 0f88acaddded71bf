"""The command line: what is typed first, and the exit code it ends with.

The commands themselves are in :mod:`fastcounts.commands`, which is loaded when one is run, so that
help is there at once.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click

from fastcounts.errors import FastcountsError
from fastcounts.limits import address_space_limit
from fastcounts.version import __version__

__all__ = ["COMMANDS", "main"]

_UNREADABLE, _UNWRITABLE, _INTERRUPTED, _FAULT = 3, 3, 4, 5
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

COMMANDS = {
    "bench": "Measure where the time of a count goes.",
    "count": "Count the pixels of every class.",
    "demo": "Make an example of 31 classes, count it, and solve it.",
    "merge": "Add up counts, such as the parts of a run.",
    "plan": "Say what a count would do; read no pixel.",
    "schemes": "List every scheme: formula, options, source.",
    "solve": "Solve for the weights of the loss.",
}


class _LateGroup(click.Group):
    """Commands that are loaded when one of them is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module("fastcounts.commands"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_LateGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fastcounts")
@click.option("--debug", is_flag=True, help="Show where an error comes from.")
def group(debug: bool) -> None:
    """Exact pixel counts of every class over every mask, and the loss weights that follow."""
    del debug  # read before anything is parsed


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end with its exit code.

    0 done; 1 a gate failed; 2 the command line is wrong; 3 data could not be read;
    4 interrupted; 5 a fault of ours.
    """
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    _ready_streams()
    try:
        with group.make_context("fastcounts", arguments) as context:
            code = group.invoke(context)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.ClickException as error:
        return _complain(error.format_message(), error.exit_code, debug)
    except FastcountsError as error:
        return _complain(str(error), error.exit_code, debug)
    except (KeyboardInterrupt, click.Abort):
        return _complain("interrupted; nothing was written", _INTERRUPTED, debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads any more
        return 0
    except OSError as error:
        if error.errno not in _FULL:
            return _fault(error, debug)
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  what is left must go somewhere
        return _complain(f"the output cannot be written: {error.strerror}", _UNWRITABLE, debug)
    except MemoryError as error:
        return _complain(_out_of_memory(error), _UNREADABLE, debug)
    except Exception as error:  # noqa: BLE001  no traceback reaches a user who has not asked
        return _fault(error, debug)


def _ready_streams() -> None:
    """Open the standard streams that are closed, on nothing, and have them take any text."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _out_of_memory(error: BaseException) -> str:
    """Say that memory ran out, within which limit, and what to do."""
    limit = address_space_limit()
    where = "" if limit is None else f" (this process is limited to {limit >> 20} MiB: ulimit -v)"
    reason = f": {error}" if str(error) else ""
    return f"memory ran out{where}{reason}; give a smaller --memory or fewer --workers"


def _fault(error: Exception, debug: bool) -> int:
    if isinstance(error, ImportError | OSError) and address_space_limit() is not None:
        return _complain(_out_of_memory(error), _UNREADABLE, debug)
    what = f"a fault in fastcounts: {type(error).__name__}: {error}; --debug shows where"
    return _complain(what, _FAULT, debug)


def _complain(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    click.echo(f"fastcounts: {message}", err=True)
    return code
