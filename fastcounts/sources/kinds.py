"""Files of several kinds in one folder, such as label masks beside instance masks.

Data sets keep several pictures of one image side by side, told apart by the end of their names:
Cityscapes writes ``a_labelIds.png``, ``a_labelTrainIds.png`` and ``a_instanceIds.png``.  Each of
them is a valid mask, and their sum means nothing.  Names are all that tells the kinds apart, so a
folder of unrelated files with such names is reported as well: that costs the user one warning.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote

from fastcounts.messages import argument
from fastcounts.notices import Notice, warning

__all__ = ["Kind", "kind_of", "mixed_kinds"]

_MASKS = (
    "labelids",
    "mask",
    "masks",
    "label",
    "labels",
    "seg",
    "segmentation",
    "gt",
    "groundtruth",
)
"""Ends of names of masks whose picture has the same name without that end."""

_KINDS = (
    *("labelTrainIds", "trainIds", "train_id", "instanceIds", "instanceTrainIds"),
    *("instances", "instance", "panoptic", "semantic", "color", "colour", "colors", "train_color"),
    *("image", "img", "rgb", "leftImg8bit", "depth", "disparity", "edges", "parts", "noBoundary"),
    *_MASKS,
)
_NAMED = re.compile(
    rf"(?P<stem>.*?)(?P<kind>[_.-](?:{'|'.join(_KINDS)}))(?P<suffix>\.[^.]+)?", re.IGNORECASE
)
_BARE = re.compile(r"(?P<stem>.+?)(?P<suffix>\.[^.]+)?")


class Kind(NamedTuple):
    """What a file's name says of its kind.

    Attributes
    ----------
    stem : the name without the end that tells kinds apart.
    end : that end, in lower case; empty if there is none that is known.
    pattern : matches all files of the kind, such as ``"*_labelIds.png"``.
    """

    stem: str
    end: str
    pattern: str


def kind_of(name: str) -> Kind:
    """Return the kind of a file."""
    if found := _NAMED.fullmatch(name):
        pattern = f"*{found['kind']}{found['suffix'] or ''}"
        return Kind(found["stem"], found["kind"][1:].lower(), pattern)
    found = _BARE.fullmatch(name)
    return Kind(found["stem"], "", f"*{found['suffix'] or ''}") if found else Kind(name, "", "*")


def mixed_kinds(uris: Iterable[str]) -> list[Notice]:
    """Warn if files of several kinds are counted together.

    Parameters
    ----------
    uris : of the files that are counted.
    """
    number: Counter[str] = Counter()
    siblings: dict[tuple[str, str], dict[Kind, str]] = defaultdict(dict)
    example: tuple[str, str] | None = None
    mixed: set[Kind] = set()
    for uri in dict.fromkeys(uris):
        folder, _, quoted = uri.rpartition("/")
        name = unquote(quoted)
        kind = kind_of(name)
        number[kind.pattern] += 1
        beside = siblings[folder, kind.stem]
        for other, its_name in beside.items():
            if _differ(kind, other):
                mixed |= {kind._replace(stem=""), other._replace(stem="")}
                example = example or (its_name, name)
        beside.setdefault(kind, name)
    if example is None:
        return []
    found = sorted(mixed, key=lambda kind: (kind.end not in _MASKS, kind.pattern))
    listed = ", ".join(f"{number[kind.pattern]} {kind.pattern}" for kind in found)
    best = found[0].pattern
    return [
        warning(
            "mixed-kinds",
            f"files of {len(found)} kinds are counted together ({listed}), such as {example[0]} "
            f"beside {example[1]}; if they show the same images, count one kind with "
            f"{argument('include', best)}",
        )
    ]


def _differ(kind: Kind, other: Kind) -> bool:
    """Return whether two kinds of one stem are pictures of one image.

    Files without a known end are a kind of their own only beside masks: ``a.png`` beside
    ``a_mask.png`` is its image, beside ``a_parts.png`` it may be anything.
    """
    if kind.end == other.end:
        return False
    return bool(kind.end and other.end) or (kind.end or other.end) in _MASKS
