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
from typing import NoReturn, TextIO

import click
from click.shell_completion import CompletionItem, shell_complete

from fastcounts.errors import FastcountsError
from fastcounts.limits import address_space_limit, require_address_space
from fastcounts.version import __version__

__all__ = ["COMMANDS", "main"]

_UNREADABLE, _UNWRITABLE, _INTERRUPTED, _FAULT = 3, 3, 4, 5
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_COMPLETE = "_FASTCOUNTS_COMPLETE"
"""Environment variable by which a shell asks for completions, as click's scripts for shells do."""

_RESERVED: list[TextIO] = []
"""Streams that are kept open for the number of a closed one."""

_EPILOG = """\b
Exit codes: 0 done; 1 a gate failed (--strict, missing parts); 2 wrong command line;
3 data could not be read or written; 4 interrupted; 5 internal error (please report).
"""

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
        require_address_space(160 << 20, "NumPy and its threads")  # OpenBLAS ends the process
        command: click.Command = getattr(import_module("fastcounts.commands"), cmd_name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a command without loading any."""
        found = [
            CompletionItem(name, help=summary)
            for name, summary in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=_LateGroup, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG
)
@click.version_option(__version__, prog_name="fastcounts")
@click.option("--debug", is_flag=True, help="Show where an error comes from.")
def group(debug: bool) -> None:
    """Exact pixel counts of every class over every mask, and the loss weights that follow."""
    del debug  # read before anything is parsed


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end with its exit code.

    0 done; 1 a gate failed; 2 wrong command line; 3 data could not be read or written;
    4 interrupted; 5 internal error (please report).
    """
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    _ready_streams()
    context: click.Context | None = None
    try:
        if instruction := os.environ.get(_COMPLETE):
            return shell_complete(group, {}, "fastcounts", _COMPLETE, instruction)
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
        return _complain(error.shell_message(), error.exit_code, debug)
    except (KeyboardInterrupt, click.Abort):
        return _complain(f"interrupted; {_written(context)}", _INTERRUPTED, debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads any more
        return 0
    except OSError as error:
        if error.errno not in (*_FULL, errno.EBADF):
            return _fault(error, debug)
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  what is left must go somewhere
        what = f"the output cannot be written: {error.strerror}; {_written(context)}"
        return _complain(what, _UNWRITABLE, debug)
    except MemoryError as error:
        return _complain(_out_of_memory(error), _UNREADABLE, debug)
    except Exception as error:  # noqa: BLE001  no traceback reaches a user who has not asked
        return _fault(error, debug)


def _written(context: click.Context | None) -> str:
    """Say which files the command has written."""
    outputs = context.meta.get("outputs", []) if context is not None else []
    paths = [output.path for output in outputs if output.was_written()]
    return f"{', '.join(paths)} was written before" if paths else "nothing was written"


class _ClosedOutput(io.StringIO):
    """Takes the place of a standard output that is closed, and refuses text."""

    def writable(self) -> bool:
        return False

    def write(self, text: str) -> int:
        del text
        raise OSError(errno.EBADF, "standard output is closed")


def _ready_streams() -> None:
    """Open the standard streams that are closed, and have standard output take any text.

    The numbers of closed streams are taken, so that no file that is opened later gets them. A
    closed standard error is lost in silence; a closed standard output is an error when it is used.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115
            if name == "stdout":
                _RESERVED.append(sys.stdout)
                sys.stdout = _ClosedOutput()
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
    what = (
        f"internal error: {type(error).__name__}: {error}; please report it with the output of "
        "--debug"
    )
    return _complain(what, _FAULT, debug)


def _complain(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    click.echo(f"fastcounts: {message}", err=True)
    return code
