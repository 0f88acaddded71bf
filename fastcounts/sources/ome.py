"""Groups: which of their arrays are label images, after OME-Zarr 0.4 and 0.5.

An image in OME-Zarr is a group of the same picture at several resolutions, the highest
first; its label images are groups of the same kind under ``labels``.  Counting the picture,
or every resolution, would give numbers that mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import zarr

__all__ = ["find_labels", "holds_labels", "is_picture"]

Array = zarr.Array[Any]


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


def _about(group: zarr.Group) -> Mapping[str, Any]:
    """What OME-Zarr says of a group: under ``ome`` from version 0.5 on."""
    attributes = dict(group.attrs)
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
