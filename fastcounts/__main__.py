"""``python -m fastcounts``."""

from fastcounts.cli import main

if __name__ == "__main__":
    main()
