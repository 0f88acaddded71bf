"""A differential fuzzer: random masks, stored in random ways, against NumPy and other readers.

Every case is a function of a seed.  ``python tests/fuzz/differential.py --seconds 3600`` runs all
kinds for an hour and prints how many cases each had; ``--kind zarr --seed 17`` runs one case again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # where reference.py is

from reference import answer, check_ledger, pictures, said

import fastcounts as fc

Array = np.ndarray[Any, Any]
Rng = np.random.Generator

INTEGERS = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8")
DTYPES = ("?", *INTEGERS, "f2", "f4", "f8")


class Wrong(AssertionError):
    """A count that differs from the oracle, or an error that is not one of fastcounts' own."""


# ---- content ----


def draw_labels(rng: Rng, dtype: np.dtype[Any], size: int) -> Array:
    """Return labels in runs of some length: few, a window of them, or ids from the whole type."""
    if dtype.kind == "b":
        top, bottom = 1, 0
    elif dtype.kind == "f":
        top = {2: 2048, 4: 2**24, 8: 2**53}[dtype.itemsize]
        bottom = -top
    else:
        top, bottom = int(np.iinfo(dtype).max), int(np.iinfo(dtype).min)
    span = int(rng.choice([2, 12, 31, 200, 256, 5000, 2**40]))
    low = (0, 0, 0, bottom, max(top - span, bottom))[int(rng.integers(5))]
    high = min(low + span, top)
    mean = float(rng.choice([1, 1.5, 5, 37, 144, 3000]))
    runs = int(size / mean * 1.3) + 8
    kind = np.uint64 if low >= 0 else np.int64
    values = rng.integers(low, high, runs, kind, endpoint=True)
    lengths = rng.geometric(1 / mean, runs)
    labels = np.repeat(values, lengths)[:size]
    labels = np.resize(labels, size) if labels.size < size else labels
    found = labels.astype(dtype)
    if dtype.kind == "f" and rng.random() < 0.5 and size:
        found[rng.integers(0, size, max(1, size // 50))] = np.nan
    return found


def draw_shape(rng: Rng, most: int, rank: int | None = None) -> tuple[int, ...]:
    """Return a shape of at most about ``most`` elements, sometimes with axes of 0 or 1."""
    rank = int(rng.integers(1, 5)) if rank is None else rank
    side = max(2, int(most ** (1 / rank)))
    shape = [int(rng.integers(1, side + 1)) for _ in range(rank)]
    if rng.random() < 0.05:
        shape[int(rng.integers(rank))] = int(rng.integers(0, 2))
    return tuple(shape)


def draw_array(rng: Rng, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Return an array of labels."""
    return draw_labels(rng, dtype, int(np.prod(shape))).reshape(shape)


def draw_layout(rng: Rng, array: Array) -> Array:
    """Return a view: transposed, cut, stepped, reversed, broadcast, byte-swapped, masked."""
    if array.ndim:
        array = array.transpose(rng.permutation(array.ndim))
    for axis in range(array.ndim):
        cut: list[Any] = [slice(None)] * array.ndim
        cut[axis] = slice(int(rng.integers(0, 3)), None)
        array = array[tuple(cut)]
        cut[axis] = slice(None, None, int(rng.choice([1, 1, 1, 2, -1, -2])))
        array = array[tuple(cut)]
    if rng.random() < 0.1:
        array = np.broadcast_to(array, (int(rng.integers(0, 4)), *array.shape))
    if rng.random() < 0.2:
        array = array.astype(array.dtype.newbyteorder())
    if rng.random() < 0.15:
        return np.ma.masked_array(array, rng.random(array.shape) < 0.3)
    return array


def draw_meaning(rng: Rng, array: Array) -> dict[str, Any]:
    """Return ``ignore`` and ``classes`` of which some occur in the array."""
    values = np.ma.getdata(array)
    some = [1, 3, 255]
    if values.size:
        valid = values[~np.isnan(values)] if values.dtype.kind == "f" else values.ravel()
        some += [int(value) for value in valid[:: max(1, valid.size // 6)][:6]]
    some = [label for label in dict.fromkeys(some) if -(2**63) <= label < 2**63]
    options: dict[str, Any] = {}
    if rng.random() < 0.4:
        options["ignore"] = tuple(int(n) for n in rng.choice(some, min(2, len(some)), False))
    if rng.random() < 0.3:
        names = [None, "road", "car"]
        options["classes"] = {label: names[int(rng.integers(3))] for label in some}
    elif rng.random() < 0.2:
        options["classes"] = int(rng.integers(1, 40))
    classes = options.get("classes", [])
    members = set(range(classes) if isinstance(classes, int) else classes)
    if members and members <= set(options.get("ignore", ())):
        del options["ignore"]  # no class would be left, which is refused
    if rng.random() < 0.5 and array.ndim:
        axis = int(rng.integers(array.ndim))
        if array.shape[axis] <= 400:  # the oracle takes 0.1 ms for each item
            options["items"] = axis
    return options


# ---- comparing ----


def compare(counts: fc.Counts, array: Array, options: dict[str, Any], what: str) -> None:
    """Check counts against the oracle, but for rows of a table and the names of items."""
    check_ledger(counts)
    meaning = {name: options[name] for name in ("ignore", "classes") if name in options}
    expected = answer(pictures(array, options.get("items", "auto")), **meaning)
    found = said(counts)
    for name in expected.keys() - {"rows"}:
        if found[name] != expected[name]:
            raise Wrong(f"{what}: {name}: {found[name]!r} should be {expected[name]!r}")


def count_all(source: Any, array: Array, options: dict[str, Any], rng: Rng, what: str) -> None:
    """Count a source whole, in threads, within a budget and in parts, against the oracle."""
    options = {"on_error": "raise", **options}
    compare(fc.count(source, workers=1, **options), array, options, what)
    compare(
        fc.count(source, workers=2, memory="64MB", **options), array, options, f"{what} in 64MB"
    )
    if isinstance(source, str | os.PathLike) and rng.random() < 0.3:
        parts = int(rng.integers(2, 5))
        counted = [fc.count(source, part=(n, parts), **options) for n in range(parts)]
        rng.shuffle(counted)
        compare(reduce(add, counted), array, options, f"{what} in {parts} parts")


# ---- kinds of cases ----


def case_array(rng: Rng, folder: Path) -> None:
    """Count an array in memory, of any type, layout and run structure."""
    del folder
    dtype = np.dtype(str(rng.choice(DTYPES)))
    most = int(rng.choice([30, 3000, 100_000, 400_000]))
    array = draw_layout(rng, draw_array(rng, dtype, draw_shape(rng, most)))
    options = draw_meaning(rng, array)
    what = f"array of {array.dtype} {array.shape} {options}"
    compare(fc.count(array, workers=int(rng.integers(1, 4)), **options), array, options, what)


def case_npy(rng: Rng, folder: Path) -> None:
    """Count an array in a file of NumPy."""
    dtype = np.dtype(str(rng.choice(DTYPES))).newbyteorder(str(rng.choice(["<", ">"])))
    array = draw_array(rng, dtype, draw_shape(rng, int(rng.choice([30, 50_000]))))
    array = np.asfortranarray(array) if rng.random() < 0.3 else array
    options = draw_meaning(rng, array)
    path = folder / ("masks.npz" if rng.random() < 0.3 else "masks.npy")
    if path.suffix == ".npz":
        save = np.savez if rng.random() < 0.5 else np.savez_compressed
        save(path, array)
    else:
        np.save(path, array)
    count_all(path, array, options, rng, f"{path.name} of {array.dtype} {array.shape} {options}")


def _compressor_v2(rng: Rng) -> Any:
    import numcodecs as nc

    shuffle = int(rng.integers(-1, 3))
    name = str(rng.choice(["lz4", "zstd", "blosclz", "lz4hc", "zlib"]))
    return [
        None,
        nc.Zstd(int(rng.integers(1, 5))),
        nc.LZ4(),
        nc.GZip(1),
        nc.Zlib(1),
        nc.BZ2(1),
        nc.LZMA(preset=0),
        nc.Blosc(name, 3, shuffle),
    ][int(rng.integers(8))]


def _codecs_v3(rng: Rng) -> Any:
    import zarr.codecs as zc

    shuffle = str(rng.choice(["noshuffle", "shuffle", "bitshuffle"]))
    name = str(rng.choice(["lz4", "zstd", "blosclz"]))
    chains: list[list[Any]] = [
        [],
        [zc.ZstdCodec(level=1)],
        [zc.GzipCodec(level=1)],
        [zc.BloscCodec(cname=name, clevel=3, shuffle=shuffle)],
        [zc.Crc32cCodec()],
        [zc.ZstdCodec(level=1, checksum=True), zc.Crc32cCodec()],
    ]
    return chains[int(rng.integers(len(chains)))]


def _draw_zarr(rng: Rng, folder: Path) -> tuple[Any, Array]:
    """Write an array with chunks that are not there, and return it and what it holds."""
    import zarr

    dtype = np.dtype(str(rng.choice(DTYPES)))
    shape = tuple(max(1, n) for n in draw_shape(rng, int(rng.choice([50, 4000, 60_000]))))
    chunks = tuple(int(rng.integers(1, n + 2)) for n in shape)
    chunks = tuple(max(c, -(-n // 12)) for c, n in zip(chunks, shape, strict=True))
    fill = [0, 1, 0, 1, 7][int(rng.integers(5))] if dtype.kind != "b" else int(rng.integers(2))
    options: dict[str, Any] = {"shape": shape, "dtype": dtype, "fill_value": fill}
    if rng.random() < 0.5:
        options |= {
            "zarr_format": 2,
            "chunks": chunks,
            "compressors": _compressor_v2(rng),
            "order": str(rng.choice(["C", "F"])),
            "dtype": dtype.newbyteorder(str(rng.choice(["<", ">"]))),
            "chunk_key_encoding": {"name": "v2", "separator": str(rng.choice([".", "/"]))},
        }
    else:
        import zarr.codecs as zc

        options |= {
            "zarr_format": 3,
            "chunks": chunks,
            "compressors": _codecs_v3(rng),
            "serializer": zc.BytesCodec(endian=str(rng.choice(["little", "big"])))
            if dtype.itemsize > 1
            else "auto",
        }
        if rng.random() < 0.4:
            options["shards"] = tuple(c * int(rng.integers(1, 4)) for c in chunks)
        if rng.random() < 0.2:
            order = [int(n) for n in rng.permutation(len(shape))]
            options["filters"] = [zc.TransposeCodec(order=order)]
    empty = bool(rng.random() < 0.5)
    with zarr.config.set({"array.write_empty_chunks": empty}):
        stored = zarr.create_array(folder / "a.zarr", **options)
        array = draw_array(rng, dtype, shape)
        keep = tuple(slice(0, int(rng.integers(1, n + 1))) for n in shape)
        stored[keep] = array[keep]
    return stored, np.asarray(zarr.open_array(folder / "a.zarr", mode="r")[...])


def case_zarr(rng: Rng, folder: Path) -> None:
    """Count a stored array, against what zarr-python reads."""
    stored, array = _draw_zarr(rng, folder)
    options = draw_meaning(rng, array)
    metadata = stored.metadata.to_dict()
    what = f"{metadata} {options}"
    source: Any = folder / "a.zarr"
    if rng.random() < 0.2:
        source = stored
    if rng.random() < 0.3:
        region = tuple(sorted(int(n) for n in rng.integers(0, size + 1, 2)) for size in array.shape)
        options["region"] = [tuple(bounds) for bounds in region]
        part = array[tuple(slice(*bounds) for bounds in region)]
        counts = fc.count(source, **options)
        if counts.ledger.total != part.size:
            raise Wrong(f"{what}: {counts.ledger.total} pixels in a region of {part.size}")
        compare(counts, part, options, what)
        return
    count_all(source, array, options, rng, what)


def case_png(rng: Rng, folder: Path) -> None:
    """Count a PNG, against Pillow."""
    from PIL import Image

    mode = str(rng.choice(["L", "P", "1", "I;16", "bits"]))
    shape = draw_shape(rng, int(rng.choice([30, 3000, 60_000])), 2)
    shape = (max(1, shape[0]), max(1, shape[1]))
    path = folder / "mask.png"
    if mode == "I;16":
        Image.fromarray(draw_array(rng, np.dtype("u2"), shape)).save(path)
    elif mode == "1":
        Image.fromarray(draw_array(rng, np.dtype("?"), shape)).save(path)
    else:
        bits = int(rng.choice([1, 2, 4])) if mode == "bits" else 8
        labels = draw_array(rng, np.dtype("u1"), shape) & (2**bits - 1)
        image = Image.fromarray(labels)
        if mode in ("P", "bits"):
            image = image.convert("L")
            image.putpalette([value for n in range(256) for value in (n, 255 - n, n // 2)])
        image.save(path, **({"bits": bits} if mode == "bits" else {}))
    with Image.open(path) as image:
        array = np.asarray(image)
    options = draw_meaning(rng, array) | {"items": "auto"}
    count_all(path, array, options, rng, f"PNG {mode} {shape} {options}")


def case_tiff(rng: Rng, folder: Path) -> None:
    """Count a TIFF, against tifffile."""
    import tifffile

    dtype = np.dtype(str(rng.choice([*INTEGERS, "f2", "f4", "f8"])))
    shape = draw_shape(rng, int(rng.choice([30, 3000, 200_000])), 2)
    shape = (max(1, shape[0]), max(1, shape[1]))
    array = draw_array(rng, dtype, shape)
    options: dict[str, Any] = {
        "compression": [None, "deflate", "lzw", "zstd", "packbits", "lzma"][int(rng.integers(6))],
        "byteorder": str(rng.choice(["<", ">"])),
        "bigtiff": bool(rng.random() < 0.2),
        "photometric": "minisblack",
    }
    if options["compression"] == "packbits" and dtype.itemsize > 2:
        options["compression"] = None
    if rng.random() < 0.4:
        options["tile"] = tuple(int(n) for n in rng.choice([16, 32, 64], 2))
    elif rng.random() < 0.5:
        options["rowsperstrip"] = int(rng.integers(1, shape[0] + 1))
    if options["compression"] in ("deflate", "lzw", "zstd") and dtype.str[1:] in ("u1", "u2", "u4"):
        options["predictor"] = bool(rng.random() < 0.4)
    path = folder / "mask.tif"
    tifffile.imwrite(path, array, **options)
    array = tifffile.imread(path)
    meaning = draw_meaning(rng, array) | {"items": "auto"}
    count_all(path, array, meaning, rng, f"TIFF {dtype} {shape} {options} {meaning}")


def case_geotiff(rng: Rng, folder: Path) -> None:
    """Count a TIFF of GDAL with nodata, sparse blocks or a mask, against rasterio."""
    import rasterio
    from rasterio.windows import Window

    dtype = str(rng.choice(["uint8", "int16", "uint16", "int32", "uint32", "float32"]))
    shape = draw_shape(rng, int(rng.choice([300, 60_000])), 2)
    height, width = max(2, shape[0]), max(2, shape[1])
    array = draw_array(rng, np.dtype(dtype), (height, width))
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": 1,
        "dtype": dtype,
        "compress": str(rng.choice(["none", "deflate", "lzw", "zstd", "packbits"])),
        "sparse_ok": bool(rng.random() < 0.5),
    }
    if rng.random() < 0.6:
        profile |= {"tiled": True, "blockxsize": 16, "blockysize": 32}
    if rng.random() < 0.5:
        profile["nodata"] = int(rng.choice([0, 1, 7]))
    path = folder / "mask.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as out:
        rows = int(rng.integers(1, height + 1)) if profile["sparse_ok"] else height
        out.write(array[:rows], 1, window=Window(0, 0, width, rows))
        if "nodata" not in profile and rng.random() < 0.4:
            out.write_mask(rng.random((height, width)) < 0.7)
    with rasterio.open(path) as read:
        found = read.read(1, masked=True)
    if found.dtype.kind == "f":
        found = np.ma.masked_array(found.data, np.ma.getmaskarray(found) | np.isnan(found.data))
    count_all(path, found, {"items": "auto"}, rng, f"GeoTIFF {profile}")


CASES: dict[str, Callable[[Rng, Path], None]] = {
    "array": case_array,
    "npy": case_npy,
    "zarr": case_zarr,
    "png": case_png,
    "tiff": case_tiff,
    "geotiff": case_geotiff,
}


def run_case(kind: str, seed: int) -> None:
    """Run one case in a folder of its own.

    Raises
    ------
    Wrong
        With the kind and the seed that repeat it.
    """
    rng = np.random.default_rng([sorted(CASES).index(kind), seed])
    folder = Path(tempfile.mkdtemp(prefix="fastcounts-fuzz-"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            CASES[kind](rng, folder)
    except Exception as error:
        raise Wrong(f"--kind {kind} --seed {seed}: {type(error).__name__}: {error}") from error
    finally:
        shutil.rmtree(folder)


def run_for(kinds: Sequence[str], seconds: float, first: int = 0) -> tuple[Counter[str], list[str]]:
    """Run cases of all kinds by turns until the time is over; return their numbers and failures."""
    done: Counter[str] = Counter()
    failures: list[str] = []
    seed, end = first, time.monotonic() + seconds
    while time.monotonic() < end and len(failures) < 20:
        for kind in kinds:
            try:
                run_case(kind, seed)
            except Wrong as wrong:
                failures.append(str(wrong))
            done[kind] += 1
        seed += 1
    return done, failures


def main() -> int:
    """Run the fuzzer from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=sorted(CASES), action="append")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="one seed alone")
    arguments = parser.parse_args()
    kinds = arguments.kind or list(CASES)
    if arguments.seed is not None:
        for kind in kinds:
            run_case(kind, arguments.seed)
        return 0
    done, failures = run_for(kinds, arguments.seconds, arguments.first)
    print(f"{sum(done.values())} cases: {dict(done)}; {len(failures)} failures")
    print("\n".join(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
