"""Check an installation that has the core dependencies and nothing else.

Count Zarr, ``.npy`` and PNG masks, solve, merge the parts of a run, and check that every
feature of an extra that is not installed stops with `MissingExtra` and the line that installs it.
Run it from a folder outside the repository, with the Python that has fastcounts::

    cd "$(mktemp -d)" && python /path/to/fastcounts/.ci/core.py
"""

from __future__ import annotations

import importlib.util
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr

import fastcounts as fc

EXTRAS = (
    *("deflate", "distributed", "imagecodecs", "obstore"),
    *("pandas", "s3fs", "scipy", "tifffile", "torch"),
)
"""Modules of the extras. The checks below mean nothing if one of them is installed."""

MASKS = np.random.default_rng(0).choice([0, 1, 2, 255], (6, 64, 64), p=[0.6, 0.2, 0.1, 0.1])


def expect(found: object, wanted: object, what: str) -> None:
    """Stop with an exit code if a result is not the expected one."""
    if found != wanted:
        sys.exit(f"{what}: expected {wanted}, found {found}")
    print(f"ok: {what}")


def check_counts() -> fc.Counts:
    """Count masks from memory, from ``.npy``, PNG and Zarr, whole and in parts."""
    array = zarr.create_array("masks.zarr", shape=MASKS.shape, chunks=(1, 32, 64), dtype="u1")
    array[...] = MASKS
    np.save("masks.npy", MASKS.astype("u1"))
    wanted = np.bincount(MASKS.ravel())[:3].tolist()
    for source in ("masks.zarr", "masks.npy", array, MASKS.astype("u1")):
        counts = fc.count(source, ignore=255, items=0)
        expect(counts.pixels.tolist(), wanted, f"pixels of {type(source).__name__} {source!s:.20}")
    Path("mask.png").write_bytes(png())
    expect(fc.count("mask.png").as_dict(), {1: 16}, "pixels of a PNG file")
    whole = fc.count("masks.zarr", ignore=255, items=0)
    parts = [fc.count("masks.zarr", ignore=255, items=0, part=(i, 3)) for i in range(3)]
    merged = parts[0] + parts[1] + parts[2]
    expect(merged == whole, True, "three parts merge to the whole run")
    whole.save("counts.json")
    expect(fc.load("counts.json") == whole, True, "counts.json holds the counts")
    return whole


def check_weights(counts: fc.Counts) -> None:
    """Compare solved weights with the formula."""
    weights = fc.solve(counts, "inverse")
    wanted = counts.pixels.max() / counts.pixels
    expect(np.allclose(weights.values, wanted, rtol=1e-12), True, "weights follow the formula")


def check_commands() -> None:
    """Run the commands that need no extra, each in a process of its own."""
    for line in (
        "plan masks.zarr --items 0 --json",
        "count masks.zarr --ignore 255 --items 0 -o counts.json",
        "solve counts.json --scheme median_frequency --json",
        "schemes --json",
    ):
        done = subprocess.run(
            [sys.executable, "-m", "fastcounts", *line.split()],
            capture_output=True,
            text=True,
            check=False,
        )
        expect((done.returncode, done.stderr), (0, ""), f"fastcounts {line}")


def png() -> bytes:
    """Return a valid greyscale PNG file of 4 by 4 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        length, digest = struct.pack(">I", len(body)), struct.pack(">I", zlib.crc32(kind + body))
        return length + kind + body + digest

    header = struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0\1\1\1\1" * 4)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    )


def tiff() -> bytes:
    """Return a valid TIFF file of 4 by 4 pixels, uncompressed, in one strip."""
    tags = {
        256: 4,  # width
        257: 4,  # height
        258: 8,  # bits per pixel
        259: 1,  # no compression
        262: 1,  # greyscale
        273: 8,  # where the strip starts
        277: 1,  # channels
        278: 4,  # rows per strip
        279: 16,  # bytes of the strip
    }
    long = 4  # the type of every value: an unsigned integer of four bytes
    entries = b"".join(struct.pack("<HHII", tag, long, 1, value) for tag, value in tags.items())
    pixels = b"\1" * 16
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory


def check_missing(what: str, extra: str, action: Callable[[], object]) -> None:
    """Stop unless an action raises MissingExtra with the line that installs the extra."""
    try:
        action()
    except fc.errors.MissingExtra as error:
        line = f"pip install 'fastcounts[{extra}]'"
        expect(line in str(error), True, f"{what}: {error}")
    else:
        sys.exit(f"{what}: it worked without the extra {extra!r}")


def check_extras(counts: fc.Counts) -> None:
    """Use a feature of every extra."""
    installed = [name for name in EXTRAS if importlib.util.find_spec(name)]
    expect(installed, [], "no module of an extra is installed")
    Path("mask.tif").write_bytes(tiff())
    check_missing("a TIFF file", "images", lambda: fc.count("mask.tif"))
    for url in ("s3://bucket/a.zarr", "gs://bucket/a.zarr", "az://bucket/a.zarr"):
        check_missing(url, "cloud", lambda url=url: fc.count(url))
    check_missing(
        "a Dask cluster", "distributed", lambda: fc.count("masks.zarr", scheduler="local")
    )
    check_missing("a table of counts", "report", counts.to_pandas)
    dominated = [[0, 1, 1], [1, 2, 2], [1, 1, 0]]
    check_missing(
        "costs that need a linear programme",
        "solve",
        lambda: fc.solve(counts, "equal_cost", costs=dominated, floor=0.1),
    )
    kept = fc.count("masks.zarr", ignore=255, items=0, keep_items=True)
    check_missing("intervals of weights", "solve", lambda: fc.bootstrap(kept, "inverse"))
    check_missing("a tensor", "frameworks", fc.solve(counts, "inverse").torch)


def main() -> None:
    """Run every check in a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        counts = check_counts()
        check_weights(counts)
        check_commands()
        check_extras(counts)
        os.chdir("/")


if __name__ == "__main__":
    main()
