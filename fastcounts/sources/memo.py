"""Stored chunks that are byte for byte ones seen before: they have the same counts.

Most of a sparse mask is background, and all chunks of background that are compressed alike
are the same few bytes.
"""

from __future__ import annotations

from fastcounts.sources.port import Known

__all__ = ["Entry", "Memo"]

_SAMPLE_BYTES = 16
_MOST_BYTES = 2 << 20
_MOST_ENTRIES = 4096
_TRIAL = 512
_LEAST_SHARE = 32
"""After ``_TRIAL`` chunks at least one in so many must have been seen before."""


class Entry:
    """One stored chunk.

    Attributes
    ----------
    seen : how often it was looked for, after the first time.
    known : its labels, once they have been counted on their own.
    """

    __slots__ = ("content", "known", "seen")

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.seen = 0
        self.known: Known | None = None


class Memo:
    """Remembers stored chunks of one codec chain, within bounds; for one thread.

    A chunk is found by its length and a few of its bytes, and is the same only if all its
    bytes are.  Where few chunks repeat, the memo gives up, since looking costs time.

    Attributes
    ----------
    is_open : whether it still looks.
    """

    def __init__(self) -> None:
        self.is_open = True
        self._entries: dict[tuple[int, bytes], Entry] = {}
        self._bytes = 0
        self._looked = 0
        self._found = 0

    def look(self, stored: bytes) -> Entry | None:
        """The entry of a chunk seen before; None, and a new entry, for any other."""
        self._looked += 1
        if self._looked == _TRIAL:
            self.is_open = self._found * _LEAST_SHARE >= _TRIAL
            self._looked = self._found = 0
        length = len(stored)
        middle = max(length - _SAMPLE_BYTES, 0) // 2
        sample = length, stored[middle : middle + _SAMPLE_BYTES]
        entry = self._entries.get(sample)
        if entry is not None and entry.content == stored:
            self._found += 1
            entry.seen += 1
            return entry
        if self._bytes + length <= _MOST_BYTES and len(self._entries) < _MOST_ENTRIES:
            if entry is None:
                self._bytes += length
                self._entries[sample] = Entry(stored)
        else:
            self._entries.clear()
            self._bytes = 0
        return None
