"""Files and folders of files: each goes to the format that knows its first bytes."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fastcounts.classes import check_label_dtype
from fastcounts.errors import (
    AmbiguousSource,
    FastcountsError,
    LabelError,
    ReadError,
    SourceError,
    SourceNotFound,
    UnsupportedSource,
)
from fastcounts.grid import Box
from fastcounts.messages import argument
from fastcounts.plan import ArrayInfo
from fastcounts.sources.archives import ZIP_MAGIC, is_npz, zip_names
from fastcounts.sources.kinds import kind_of
from fastcounts.sources.numpy_files import COUNTS_REFUSAL, NpyFormat, NpzFormat
from fastcounts.sources.png import PngFormat
from fastcounts.sources.port import Piece, Source, Unreadable, box_shape, explain
from fastcounts.sources.refusals import refuse_file
from fastcounts.sources.selection import Opening, abbreviate, names_below
from fastcounts.sources.tiff import TiffFormat, is_companion

__all__ = [
    "SUFFIXES",
    "FileSource",
    "FolderFiles",
    "Format",
    "file_type",
    "find_files",
    "unreadable_at",
]

_HEAD = 16
_LIKELY = re.compile("label|mask|seg|class|gt|truth|annot", re.IGNORECASE)
"""Names that arrays of labels have; the first array with one is the example in messages."""

SUFFIXES = {".npy", ".npz", ".png", ".tif", ".tiff"}
_KNOWN = "PNG, TIFF, .npy, .npz or Zarr"


class Format(Protocol):
    """A kind of file that holds masks."""

    @property
    def magic(self) -> tuple[bytes, ...]:
        """The bytes with which such files begin."""

    def describe(self, path: Path) -> list[ArrayInfo]:
        """Say what arrays the file holds, without reading pixels."""

    def read(self, path: Path, info: ArrayInfo, box: Box) -> NDArray[Any] | list[Piece]:
        """Read one block of one of them; pieces if elements of it are not stored."""


FORMATS: tuple[Format, ...] = (NpyFormat(), NpzFormat(), PngFormat(), TiffFormat())


class FileSource(Source):
    """Masks in files.

    A file that cannot be counted is listed in ``unreadable``, with the error that says why.

    Parameters
    ----------
    paths : the files, in the order in which they are counted.
    strangers : what to do with a file of no known format: ``"refuse"`` if it was named,
        ``"skip"`` if it was found in a folder.
    opening : the choices of the user; takes what is passed over.
    member : the array of each .npz archive that is counted, or None.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        strangers: str = "refuse",
        opening: Opening | None = None,
        member: str | None = None,
    ) -> None:
        self._opening = opening or Opening()
        self._strangers = strangers
        self._readers: list[tuple[Format, Path, _Stamp]] = []
        self._changed: set[int] = set()
        arrays: list[ArrayInfo] = []
        unreadable: list[Unreadable] = []
        for path in paths:
            try:
                found = self._describe(path, member)
            except (SourceError, LabelError) as error:
                unreadable.append(unreadable_at(path, error, found=strangers == "skip"))
            except FastcountsError:
                raise
            except Exception as error:  # noqa: BLE001  a parser may fail in any way on damaged bytes
                unreadable.append(Unreadable(abbreviate(path), explain(error)))
            else:
                arrays += found
        self.arrays = tuple(arrays)
        self.unreadable = tuple(unreadable)
        self.notices = tuple(notice for info in arrays for notice in info.notices)

    def _describe(self, path: Path, member: str | None) -> list[ArrayInfo]:
        """Return the arrays of a file that are counted; none if the file is passed over."""
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for a writer
            if self._strangers == "refuse":
                raise UnsupportedSource(f"{path}: is {file_type(status.st_mode)}")
            self._opening.skip(path, "special-file")
            return []
        reader = _format(path)
        if reader is None:
            if self._strangers == "refuse" or _is_named_as_mask(path):
                raise _refusal(path)
            self._opening.skip(path, "counts-file" if is_counts_json(path) else "not-a-mask")
            return []
        if self._strangers == "skip" and is_companion(path):
            self._opening.skip(path, "companion")
            return []
        found = reader.describe(path)
        if isinstance(reader, NpzFormat):
            if not found:
                if self._strangers == "refuse":
                    raise UnsupportedSource(f"{path}: {COUNTS_REFUSAL}")
                self._opening.skip(path, "counts-file")
                return []
            found = _choose(path, found, self._opening, member)
        elif member is not None:
            raise UnsupportedSource(
                f"{path}: is not an .npz archive, so it contains no array named {member!r}"
            )
        self._readers += [(reader, path, _stamp(status))] * len(found)
        return found

    def read(self, array: int, box: Box) -> Iterable[Piece]:
        """Read one block of one file.

        Raises
        ------
        ReadError
            If it cannot be read, or if the file was changed since it was opened.
        """
        reader, path, _ = self._readers[array]
        info = self.arrays[array]
        try:
            found = reader.read(path, info, box)
        except ReadError:
            self._check_unchanged(array)
            raise
        except FastcountsError:
            raise
        except Exception as error:  # noqa: BLE001  a decoder may fail in any way on damaged bytes
            self._check_unchanged(array)
            raise ReadError(f"{path}: {explain(error)}") from None
        self._check_unchanged(array)
        pieces = found if isinstance(found, list) else [Piece(box, found)]
        for piece in pieces:
            if (pixels := piece.pixels) is not None and (
                pixels.shape != box_shape(piece.box) or pixels.dtype != info.dtype
            ):
                raise ReadError(
                    f"{info.name}: damaged: {_kind(box_shape(piece.box), info.dtype)} pixels were "
                    f"expected from its header, and {_kind(pixels.shape, pixels.dtype)} decoded"
                )
        return pieces

    def _check_unchanged(self, array: int) -> None:
        """Verify that a file is the one that was opened.

        Raises
        ------
        ReadError
            If it is not, with what was announced and what is there now.
        """
        reader, path, before = self._readers[array]
        info = self.arrays[array]
        try:
            if (now := _stamp(path.stat())) == before:
                return
            there = {one.name: one for one in reader.describe(path)}.get(info.name)
        except Exception as error:  # noqa: BLE001  what is there now may be anything
            what = f"it cannot be opened again ({_reason(error, path)})"
        else:
            if there is None or (there.shape, there.dtype) == (info.shape, info.dtype):
                what = f"it had {before.size} bytes when it was opened and has {now.size} now"
            else:
                what = (
                    f"it held {_kind(info.shape, info.dtype)} pixels, and now "
                    f"{_kind(there.shape, there.dtype)}"
                )
        self._changed.add(array)
        raise ReadError(
            f"{info.name}: the file was changed while it was being counted: {what}; count it again"
        )

    def confirm(self) -> None:
        """Verify that files whose pixels are mapped into memory were not changed.

        Their pixels are read when they are counted, which :meth:`read` cannot see.

        Raises
        ------
        ReadError
            Naming the first file that was, unless a block of it was refused for that reason.
        """
        for array, info in enumerate(self.arrays):
            if info.is_view and array not in self._changed:
                self._check_unchanged(array)

    def fill_value(self, array: int) -> Any:
        """Return the value of elements that are not stored, as in sparse TIFF files."""
        return self.arrays[array].fill

    def knows_missing(self, array: int) -> bool:
        """Return whether the format can leave elements out."""
        return self.arrays[array].fill is not None


class _Stamp(NamedTuple):
    """What differs if a file is written to or replaced.

    The inode is not in it: on some network file systems it changes while the file stays the same.
    """

    size: int
    modified: int


def _stamp(status: os.stat_result) -> _Stamp:
    """Return the stamp of a file."""
    return _Stamp(status.st_size, status.st_mtime_ns)


def _kind(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    return f"{' x '.join(map(str, shape))} {dtype}"


def _reason(error: Exception, path: Path) -> str:
    text = str(error) if isinstance(error, FastcountsError) else explain(error)
    return text.removeprefix(str(path)).removeprefix(": ")


def file_type(mode: int) -> str:
    """Return what a file is that is neither a regular file nor a folder, and what to do."""
    kinds = {
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFDIR: "a folder",
    }
    what = kinds.get(stat.S_IFMT(mode), "not a regular file")
    return f"{what}; masks are read from regular files, so write its content to one"


def unreadable_at(path: Path, error: FastcountsError, *, found: bool) -> Unreadable:
    """Return the record of a file or Zarr array that is refused.

    Parameters
    ----------
    path, error : what is refused, and why.
    found : whether it was found in a folder or by a glob, so that it can be left out.
    """
    text = str(error)
    member, mark, reason = text.removeprefix(str(path)).partition(": ")
    if not text.startswith(str(path)) or not mark:
        member, reason = "", text
    advice = ""
    if found:
        kind = kind_of(path.name)
        pattern = kind.pattern if kind.end else path.name
        advice = (
            f" (to count the other files, leave it out with {argument('exclude', pattern)} or "
            f"record it with {argument('on_error', 'record')})"
        )
    kind_of_error = type(error) if isinstance(error, SourceError | LabelError) else ReadError
    name = abbreviate(f"{path}{member}")
    return Unreadable(name, reason, kind_of_error, str(error.args[0]), advice)


def _choose(
    path: Path, found: Sequence[ArrayInfo], opening: Opening, member: str | None
) -> list[ArrayInfo]:
    """Choose among the arrays of an archive, as among those of a Zarr group.

    One array is taken whatever it is called.  Of several, the only one of integers is; the others
    are images, probabilities or descriptions.  Several arrays of integers may be an image and its
    mask, so the user has to name one or ask for all.
    """
    names = {info.name[len(f"{path}#") :]: info for info in found}
    listed = ", ".join(f"{name} ({info.dtype} {info.shape})" for name, info in names.items())
    if member is not None:
        chosen = names.get(member) or names.get(member.removesuffix(".npy"))
        if chosen is None:
            raise SourceNotFound(f"{path}: contains no array named {member!r}, only {listed}")
        check_label_dtype(chosen.dtype, chosen.name)
        return [chosen]
    if len(found) == 1:
        check_label_dtype(found[0].dtype, found[0].name)
        return list(found)
    labels = [info for info in found if info.dtype.kind in "biu"]
    if not labels and opening.every:
        labels = [info for info in found if info.dtype.kind == "f"]
        for info in labels:
            check_label_dtype(info.dtype, info.name)
    if len(labels) == 1 or (labels and opening.every):
        for info in found:
            if info not in labels:
                opening.skip(info.name, "array")
        return labels
    number = f"{len(labels)} arrays" if labels else "no array"
    likely = next((name for name in names if _LIKELY.search(name)), next(iter(names)))
    raise AmbiguousSource(
        f"{path}: the archive contains {number} of integers: {abbreviate(listed)}; name the array "
        f"of the labels as {path}#{likely}, or count all arrays with "
        f"{argument('all_arrays', True)}"
    )


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


def _format(path: Path) -> Format | None:
    head = _head(path)
    found = next((known for known in FORMATS if head.startswith(known.magic)), None)
    if isinstance(found, NpzFormat) and path.suffix.lower() != ".npz":
        return found if is_npz(path, zip_names(path)) else None
    return found


def _is_named_as_mask(path: Path) -> bool:
    """Whether a file that is no mask claims to be one: then it is damaged, and no bystander."""
    return path.suffix.lower() in SUFFIXES


def is_counts_json(path: Path) -> bool:
    """Return whether a file is a counts file in JSON."""
    with path.open("rb") as file:
        head = file.read(64)
    return head.lstrip().startswith(b"{") and b'"fastcounts":' in head


def _refusal(path: Path) -> SourceError:
    """Say why a file of no known format cannot be counted."""
    if not (head := _head(path)):
        return ReadError(f"{path}: the file is empty")
    if head.startswith(ZIP_MAGIC) and not zip_names(path):
        return ReadError(f"{path}: the zip file is damaged, or contains nothing")
    if is_counts_json(path):
        return UnsupportedSource(f"{path}: {COUNTS_REFUSAL}")
    if (reason := refuse_file(path)) is not None:
        return UnsupportedSource(f"{path}: {reason}")
    if _is_named_as_mask(path):
        return ReadError(f"{path}: damaged: it does not begin as a {path.suffix} file does")
    return UnsupportedSource(f"{path}: is no mask that fastcounts knows: {_KNOWN}")


class FolderFiles(NamedTuple):
    """What a folder contains, in a fixed order.

    Attributes
    ----------
    paths : files and folders of Zarr, each with whether it is a folder.
    unreadable : what cannot be listed.
    """

    paths: list[tuple[Path, bool]]
    unreadable: list[Unreadable]


def find_files(
    folder: Path, is_array: Callable[[Path], bool], opening: Opening | None = None
) -> FolderFiles:
    """Find every file below a folder; a folder that is a Zarr array or group comes as one.

    Hidden files and folders are passed over.  Links are followed; a folder that was listed before
    is passed over, so that links in a circle end.

    Parameters
    ----------
    folder : where to look.
    is_array : tells whether a folder is a Zarr array or group.
    opening : the choices of the user; takes what is passed over.

    Raises
    ------
    SourceNotFound
        If the folder itself cannot be listed.
    """
    opening = opening or Opening()
    found = FolderFiles([], [])

    def fail(error: OSError) -> None:
        if str(error.filename) == str(folder):
            raise SourceNotFound(f"{abbreviate(error.filename)}: {error.strerror}")
        found.unreadable.append(_unlistable(Path(error.filename), error))

    seen: set[str] = set()
    for root, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:  # a link that leads back up, or to a folder that has another name
            opening.skip(root, "listed-before")
            folders.clear()
            continue
        seen.add(real)
        here = Path(root)
        below = names_below(here, folder)
        for name in sorted(name for name in (*folders, *files) if name.startswith(".")):
            opening.skip(here / name, "hidden")
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and not opening.excludes((*below, name))
        )
        names = {name: False for name in files if not name.startswith(".")}
        for name in folders.copy():
            try:
                if is_array(here / name):
                    names[name] = True
                    folders.remove(name)
            except OSError as error:
                found.unreadable.append(_unlistable(here / name, error))
                folders.remove(name)
        for name, is_folder in sorted(names.items()):
            if opening.takes((*below, name)):
                found.paths.append((here / name, is_folder))
    return found


def _unlistable(path: Path, error: OSError) -> Unreadable:
    reason = error.strerror or str(error)
    if error.errno == errno.ENAMETOOLONG:
        reason = f"the path has {len(os.fsencode(path))} bytes, more than the system can open"
    advice = (
        f" (leave the folder out with {argument('exclude')} or record it with "
        f"{argument('on_error', 'record')})"
    )
    return Unreadable(abbreviate(path), reason, SourceNotFound, advice=advice)
