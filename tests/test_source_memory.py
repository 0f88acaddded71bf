"""Arrays in memory."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from test_sources import Case, SourceContract, mask


def case(*arrays: np.ndarray) -> Case:
    return lambda _: (arrays[0] if len(arrays) == 1 else list(arrays), list(arrays))


def memmap(folder: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    mask(9, 7, dtype=">u2").tofile(folder / "raw")
    mapped = np.memmap(folder / "raw", ">u2", "r", shape=(9, 7))
    return mapped, [np.asarray(mapped)]


class TestMemory(SourceContract):
    anonymous = True
    cases: ClassVar[dict[str, Case]] = {
        "uint8": case(mask(20, 30)),
        "bool": case(mask(20, 30, labels=2, dtype=bool)),
        "4d": case(mask(3, 4, 5, 2)),
        "fortran": case(np.asfortranarray(mask(20, 30))),
        "big-endian": case(mask(7, 8, dtype=">i4")),
        "strided": case(mask(20, 30)[::2, ::-3]),
        "broadcast": case(np.broadcast_to(mask(5), (4, 5))),
        "unaligned": case(np.frombuffer(b"x" + mask(21).tobytes() + b"y", "<u2", 10, 1)),
        "0-d": case(np.array(3, np.int16)),
        "empty": case(np.zeros((3, 0, 2), np.uint8)),
        "masked": case(np.ma.masked_equal(mask(9, 9), 2)),
        "floats": case(mask(6, 6).astype(np.float32)),
        "several": case(mask(4, 4), mask(2, 3, 4, dtype=np.int64), np.zeros(0, np.uint8)),
        "mixed": case(mask(4, 4), np.ma.masked_less(mask(5, 5, seed=1), 2)),
        "memmap": memmap,
    }


def test_matrix__is_an_array_of_two_axes() -> None:
    import warnings

    import fastcounts as fc

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        matrix = np.matrix([[1, 2], [2, 2]])
    counts = fc.count(matrix, items=0)
    assert counts.pixels.tolist() == [1, 3]
    assert counts.presence.tolist() == [1, 2]


def test_scalar__is_one_pixel() -> None:
    import fastcounts as fc

    assert fc.count(np.uint16(7)).labels.tolist() == [7]
