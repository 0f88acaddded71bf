"""Groups: which of their arrays are label images, after OME-Zarr 0.4 and 0.5.

An image in OME-Zarr is a group of the same picture at several resolutions, the highest
first; its label images are groups of the same kind under ``labels``.  Counting the picture,
or every resolution, would give numbers that mean nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import LocalStore

from fastcounts.classes import join_names
from fastcounts.sources.cf import as_label, clean_name

__all__ = ["class_names", "find_labels", "holds_labels", "is_picture"]

Array = zarr.Array[Any]

_NAMES = ("class", "name")
"""The properties of a label that name its class; the first that is there does."""

_LEVELS = 2
"""How many groups above a resolution its label image may be: ``nuclei/0``, ``nuclei/0/image``."""


def find_labels(group: zarr.Group) -> Iterator[tuple[str, Array]]:
    """The arrays of a group that may hold labels, each with its path in the store.

    Of label images the highest resolution alone, of pictures nothing but their labels; in
    groups that say nothing of themselves every array.
    """
    about = _about(group)
    if "multiscales" in about:
        if "image-label" in about or _is_under_labels(group):
            yield from _highest(group, about)
        elif isinstance(labels := _child(group, "labels"), zarr.Group):
            yield from find_labels(labels)
    elif isinstance(about.get("labels"), list):
        for name in about["labels"]:
            member = _child(group, str(name))
            if isinstance(member, zarr.Group):
                yield from find_labels(member)
            elif member is not None:
                yield member.path, member
    else:
        for _, member in sorted(group.members(), key=lambda pair: pair[0]):
            if isinstance(member, zarr.Group):
                yield from find_labels(member)
            else:
                yield member.path, member


def is_picture(group: zarr.Group) -> bool:
    """Whether a group is an image, and no label image."""
    about = _about(group)
    return "multiscales" in about and "image-label" not in about and not _is_under_labels(group)


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
    scales = about["multiscales"]
    try:
        path = str(scales[0]["datasets"][0]["path"])
    except (LookupError, TypeError):
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
