"""Zip files: which of them contain NumPy arrays, Zarr arrays, or something else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile, ZipFile

__all__ = ["ZIP_MAGIC", "first_duplicate", "is_npz", "zarr_roots", "zip_names"]

ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_MARKERS = ("zarr.json", ".zarray", ".zgroup")


def zip_names(path: Path) -> list[str]:
    """Return the names of the members of a zip file; none if it is not one or is damaged."""
    try:
        with path.open("rb") as file:
            if not file.read(4).startswith(ZIP_MAGIC):
                return []
        with ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, BadZipFile, ValueError, NotImplementedError, RuntimeError):
        return []


def is_npz(path: Path, names: Sequence[str]) -> bool:
    """Return whether a zip file is an .npz archive: by its suffix, or by its members."""
    return path.suffix.lower() == ".npz" or (
        bool(names) and all(name.endswith(".npy") for name in names)
    )


def zarr_roots(names: Sequence[str]) -> list[str]:
    """Return the outermost folders that are Zarr arrays or groups; ``""`` is the archive itself."""
    folders = {
        folder.rstrip("/")
        for folder, _, name in (name.rpartition("/") for name in names)
        if name in _MARKERS
    }
    return sorted(
        folder for folder in folders if not any(above in folders for above in _above(folder))
    )


def _above(folder: str) -> list[str]:
    """Return the folders above one, with that of the archive itself."""
    parts = folder.split("/") if folder else []
    return ["/".join(parts[:length]) for length in range(len(parts))]


def first_duplicate(names: Sequence[str]) -> str | None:
    """Return the first name that several members have, or None."""
    return next((name for name, number in Counter(names).items() if number > 1), None)
