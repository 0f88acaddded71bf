"""Groups: which of their arrays are label images, after OME-Zarr 0.4 and 0.5, and xarray.

An image in OME-Zarr is a group of the same picture at several resolutions, the highest
first; its label images are groups of the same kind under ``labels``.  Counting the picture,
or every resolution, would give numbers that mean nothing.  The coordinates that xarray writes
beside its variables, such as time, are not labels either.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import zarr
from zarr.core.sync import sync
from zarr.storage import LocalStore

from fastcounts.classes import join_names
from fastcounts.sources.cf import as_label, clean_name

__all__ = ["axis_names", "class_names", "describe_group", "find_labels", "holds_labels"]

Array: TypeAlias = "zarr.Array[Any]"  # a string: before zarr 3.1.4 the class takes no type

_NAMES = ("class", "name")
"""The properties of a label that name its class; the first that is there does."""

_COORDINATES = ("coordinates", "grid_mapping", "bounds")
"""Attributes that list the names of variables that are not data."""

_LEVELS = 2
"""How many groups above a resolution its label image may be: ``nuclei/0``, ``nuclei/0/image``."""


def find_labels(
    group: zarr.Group, coordinates: list[Array] | None = None
) -> Iterator[tuple[str, Array]]:
    """Yield the arrays of a group that may contain labels, each with its path in the store.

    Of label images the highest resolution alone, of pictures nothing but their labels; in
    groups that say nothing of themselves every array except coordinates.

    Parameters
    ----------
    group : an open group.
    coordinates : a list that takes the coordinates.
    """
    about = _about(group)
    if "multiscales" in about:
        if "image-label" in about or _is_under_labels(group):
            yield from _highest(group, about)
        elif isinstance(labels := _child(group, "labels"), zarr.Group):
            yield from find_labels(labels, coordinates)
    elif isinstance(about.get("labels"), list):
        for name in about["labels"]:
            member = _child(group, str(name))
            if isinstance(member, zarr.Group):
                yield from find_labels(member, coordinates)
            elif member is not None:
                yield member.path, member
    else:
        members = dict(_open_members(group))
        beside = _coordinates(group, members)
        for name, member in members.items():
            if isinstance(member, zarr.Group):
                yield from find_labels(member, coordinates)
            elif name not in beside:
                yield member.path, member
            elif coordinates is not None:
                coordinates.append(member)


def _open_members(group: zarr.Group) -> list[tuple[str, Array | zarr.Group]]:
    """Open the arrays and groups in a group, sorted by name.

    zarr-python opens them at once and raises the first error without waiting for those that are
    still being opened: they would end in messages of asyncio when the process ends.
    """
    known = sync(_tasks())
    try:
        return sorted(group.members(), key=lambda pair: pair[0])
    except Exception:
        sync(_finish(known))
        raise


async def _tasks() -> set[Any]:
    """Return the tasks of the event loop of zarr-python."""
    return asyncio.all_tasks()


async def _finish(known: set[Any]) -> None:
    """Wait until the tasks that are not known have ended, and drop their errors."""
    begun = asyncio.all_tasks() - known - {asyncio.current_task()}
    await asyncio.gather(*begun, return_exceptions=True)


def _coordinates(group: zarr.Group, members: Mapping[str, Array | zarr.Group]) -> set[str]:
    """Return the names of the members that are coordinates, as CF and xarray declare them.

    xarray lists coordinates in an attribute of a variable or of the group, except those that are
    named as their own only dimension.
    """
    named: set[str] = set()
    for member in (group, *members.values()):
        attributes = member.attrs
        for key in _COORDINATES:
            if isinstance(value := attributes.get(key), str):
                named.update(word.rstrip(":") for word in value.split())
    own = {
        name
        for name, member in members.items()
        if isinstance(member, zarr.Array) and _dimensions(member) == (name,)
    }
    return named | own


def _dimensions(array: Array) -> tuple[str, ...]:
    """Return the names of the dimensions of an array; empty unless they are given."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if not isinstance(names, list | tuple) or len(names) != len(array.shape):
        return ()
    return tuple(name if isinstance(name, str) else "" for name in names)


def axis_names(array: Array) -> tuple[str, ...]:
    """Return the names of the axes of an array, empty for an axis without a name.

    They are those of its dimensions, or of the axes of the OME-Zarr image that it is a part of.
    """
    if any(names := _dimensions(array)):
        return names
    for about in map(_ome, _attributes_above(array)):
        scales = about.get("multiscales")
        if isinstance(scales, list) and scales and isinstance(scales[0], Mapping):
            axes = scales[0].get("axes")
            if isinstance(axes, list) and len(axes) == len(array.shape):
                return tuple(map(_axis_name, axes))
    return ()


def _axis_name(axis: Any) -> str:
    """Return the name of an axis: an object with a name, or as in 0.3 the name itself."""
    name = axis.get("name") if isinstance(axis, Mapping) else axis
    return name if isinstance(name, str) else ""


def describe_group(group: zarr.Group, name: str) -> str:
    """Return what a group without label images is, and what to name instead; empty if unknown."""
    about = _about(group)
    if "multiscales" in about and not ("image-label" in about or _is_under_labels(group)):
        path = _first_path(about) or "0"
        return f"is an image without label images; {_instead(name, path)}"
    kinds = {
        "plate": ("a plate", "wells"),
        "well": ("a well of a plate", "images"),
        "bioformats2raw.layout": ("a bioformats2raw layout", ""),
    }
    for key, (kind, list_name) in kinds.items():
        if key not in about:
            continue
        parts = about[key].get(list_name) if isinstance(about[key], Mapping) else None
        number = f" of {len(parts)} {list_name}" if isinstance(parts, list) else ""
        path = next((path for path, member in _walk(group)), "0/0")
        return f"is {kind}{number} and contains images, but no label images; {_instead(name, path)}"
    return ""


def _instead(name: str, path: str) -> str:
    return f"if the pixels of an image are labels, name its array, such as {name}/{path}"


def _first_path(about: Mapping[str, Any]) -> str | None:
    """Return the path of the highest resolution of an image, as its metadata has it."""
    try:
        return str(about["multiscales"][0]["datasets"][0]["path"])
    except (LookupError, TypeError):
        return None


def _walk(group: zarr.Group) -> Iterator[tuple[str, Array]]:
    """Yield the arrays below a group, with their paths relative to it."""
    for name, member in _open_members(group):
        if isinstance(member, zarr.Group):
            yield from ((f"{name}/{path}", array) for path, array in _walk(member))
        else:
            yield name, member


def class_names(array: Array) -> dict[int, tuple[str, ...]]:
    """What the label image of which an array is a resolution calls its labels.

    Properties are free in form: of each label the ``class`` is taken, or else the ``name``.
    Metadata that is broken names nothing.
    """
    above = map(_ome, _attributes_above(array))
    image = next((about for about in above if "multiscales" in about), {}).get("image-label")
    properties = image.get("properties") if isinstance(image, Mapping) else None
    names = []
    for entry in properties if isinstance(properties, list) else ():
        if not isinstance(entry, Mapping):
            continue
        label = as_label(entry.get("label-value"))
        name = next((name for key in _NAMES if (name := clean_name(entry.get(key)))), None)
        if label is not None and name is not None:
            names.append({label: (name,)})
    return join_names(names)


def _attributes_above(array: Array) -> Iterator[Mapping[str, Any]]:
    """The attributes of the groups above an array, the nearest first."""
    store, version = array.store, array.metadata.zarr_format
    if isinstance(store, LocalStore):
        folder = (Path(store.root) / array.path).absolute()
        yield from (_attributes_in(one, version) for one in islice(folder.parents, _LEVELS))
        return
    parts = array.path.split("/") if array.path else []
    for length in reversed(range(max(len(parts) - _LEVELS, 0), len(parts))):
        path = "/".join(parts[:length])
        try:
            yield zarr.open_group(store, path=path, mode="r", zarr_format=version).attrs
        except Exception:  # noqa: BLE001  a store may fail in any way, and names are only names
            return


def _attributes_in(folder: Path, version: int) -> Mapping[str, Any]:
    """The attributes of the group in a folder; none where there is no group."""
    try:
        content = json.loads((folder / ("zarr.json" if version == 3 else ".zattrs")).read_bytes())
    except (OSError, ValueError):
        return {}
    found = content.get("attributes") if version == 3 and isinstance(content, dict) else content
    return found if isinstance(found, dict) else {}


def _about(group: zarr.Group) -> Mapping[str, Any]:
    """What OME-Zarr says of a group."""
    return _ome(dict(group.attrs))


def _ome(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is of OME-Zarr among attributes: under ``ome`` from version 0.5 on."""
    inner = attributes.get("ome")
    return inner if isinstance(inner, Mapping) else attributes


def _is_under_labels(group: zarr.Group) -> bool:
    """Whether the group is a member of a group ``labels``, as label images are."""
    return "labels" in group.path.split("/")[:-1]


def _highest(group: zarr.Group, about: Mapping[str, Any]) -> Iterator[tuple[str, Array]]:
    """The label image at its highest resolution, which is the first."""
    if (path := _first_path(about)) is None:
        return
    member = _child(group, path)
    if member is not None and not isinstance(member, zarr.Group):
        yield member.path, member


def _child(group: zarr.Group, path: str) -> Array | zarr.Group | None:
    try:
        return group[path]
    except KeyError:
        return None


def holds_labels(array: Array) -> bool:
    """Whether the elements of an array are integers or truth values."""
    return np.dtype(array.dtype).kind in "biu"
