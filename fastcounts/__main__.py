"""The command line, from its first moment: ``python -m fastcounts`` and ``fastcounts``."""

from __future__ import annotations

import os
from typing import NoReturn

__all__ = ["main"]

_INTERRUPTED = 4


def main() -> NoReturn:
    """Run the command line; being interrupted while it loads ends it without a traceback."""
    try:
        from fastcounts import cli
    except KeyboardInterrupt:
        os.write(2, b"fastcounts: interrupted; nothing was written\n")
        os._exit(_INTERRUPTED)
    cli.main()


if __name__ == "__main__":
    main()
