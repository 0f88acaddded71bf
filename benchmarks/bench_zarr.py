"""Counting Zarr arrays against decoding them, and against other ways to count them.

Run as ``python -m benchmarks.bench_zarr``.  Every figure is a ratio of medians of runs that
take turns in one process, and every answer is compared with that of ``np.bincount`` first.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import deflate
import numcodecs
import numpy as np
import zarr
from numcodecs import blosc, lz4, zstd
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

import fastcounts as fc
from benchmarks.masks import CAMVID_RUN, VOC_RUN, natural
from fastcounts import kernels

THREADS = 2
SIDE = 1024


def medians(rounds: int, *ways: Callable[[], Any]) -> list[float]:
    """Seconds of each way, the median of rounds in which they take turns."""
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for seconds, way in zip(times, ways, strict=True):
            begun = time.perf_counter()
            way()
            seconds.append(time.perf_counter() - begun)
    return [statistics.median(seconds) for seconds in times]


def masks(run: float, images: int, dtype: str = "u1") -> NDArray[Any]:
    """Masks of a mean run length; a few are drawn, and the others are those shifted."""
    few = natural(run, images=8, shape=(SIDE, SIDE))
    shifted = [np.roll(few[n % 8], 61 * (n // 8), axis=(n // 8) % 2) for n in range(images)]
    return np.stack(shifted).astype(dtype)


def write(
    path: Path, pixels: NDArray[Any], side: int, codec: Any, times: int = 1, **options: Any
) -> Path:
    """Store masks, several times over; every chunk exists."""
    if not path.exists():
        array = zarr.create_array(
            path,
            shape=(times * pixels.shape[0], *pixels.shape[1:]),
            chunks=(1, side, side),
            dtype=pixels.dtype,
            compressors=codec,
            config={"write_empty_chunks": True},
            **options,
        )
        for begin in range(0, array.shape[0], pixels.shape[0]):
            array[begin : begin + pixels.shape[0]] = pixels
    return path


def check(counts: fc.Counts, pixels: NDArray[Any]) -> None:
    expected = np.bincount(pixels.ravel())
    labels = np.flatnonzero(expected)
    assert counts.labels.tolist() == labels.tolist()
    assert counts.pixels.tolist() == expected[labels].tolist()


def in_threads(work: Callable[[list[Any]], None], things: list[Any]) -> None:
    """Do something to all things, in as many threads as counting uses."""
    threads = [threading.Thread(target=work, args=(things[n::THREADS],)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# ---- against decoding alone ----


def codecs(width: int) -> dict[str, tuple[Any, Callable[[bytes], Any], float, float]]:
    """Codecs, how numcodecs undoes them, and the least ratio at mean runs of 144 and 37 px."""
    gzip = numcodecs.GZip()

    def squeezed(name: str, shuffle: str) -> Any:
        return BloscCodec(cname=name, shuffle=shuffle, typesize=width)

    return {
        "zstd": (ZstdCodec(level=0), zstd.decompress, 0.85, 0.8),
        "lz4": (zarr.codecs.numcodecs.LZ4(), lz4.decompress, 0.85, 0.8),
        "blosc lz4": (squeezed("lz4", "noshuffle"), blosc.decompress, 0.85, 0.8),
        "blosc lz4, bits": (squeezed("lz4", "bitshuffle"), blosc.decompress, 2.5, 2.5),
        "blosc zstd, bits": (squeezed("zstd", "bitshuffle"), blosc.decompress, 2.5, 2.5),
        "blosc lz4, bytes": (squeezed("lz4", "shuffle"), blosc.decompress, 1.1, 1.1),
        "gzip": (GzipCodec(level=5), gzip.decode, 3.0, 3.0),
    }


def against_decoding(folder: Path, images: int, rounds: int) -> Iterator[dict[str, Any]]:
    for run, which in ((VOC_RUN, 0), (CAMVID_RUN, 1)):
        for dtype in ("u1", "i4"):
            pixels = masks(run, images if dtype == "u1" else max(images // 4, 1), dtype)
            for name, (codec, decode, *floors) in codecs(pixels.itemsize).items():
                if ("bytes" in name) != (dtype == "i4"):
                    continue
                for side in (1024, 512, 256):
                    floor = 0.75 if side == 256 and name == "zstd" else floors[which]
                    path = write(folder / f"{run:.0f} {name} {side}", pixels, side, codec)
                    what = f"{name}, {side * side >> 10} Ki px chunks, mean run {run:.0f}"
                    peers = [("decoding alone", decode, floor)]
                    if name == "gzip":
                        peers.append(("libdeflate alone", deflate.gzip_decompress, 0.85))
                    for peer, undo, least in peers:
                        alone, counting = _decode_times(path, pixels, undo, rounds)
                        yield {
                            "what": f"{what}: {peer}",
                            "rate": pixels.size / counting / 1e9,
                            "ratio": alone / counting,
                            "floor": least,
                        }
                    shutil.rmtree(path)


def _decode_times(
    path: Path, pixels: NDArray[Any], decode: Callable[[bytes], Any], rounds: int
) -> list[float]:
    stored = [file.read_bytes() for file in (path / "c").rglob("*") if file.is_file()]

    def undo(part: list[bytes]) -> None:
        for chunk in part:
            decode(chunk)

    check(fc.count(path, workers=THREADS), pixels)
    return medians(
        rounds, lambda: in_threads(undo, stored), lambda: fc.count(path, workers=THREADS)
    )


def against_reading(folder: Path, images: int, rounds: int) -> Iterator[dict[str, Any]]:
    pixels = masks(VOC_RUN, images)
    path = write(folder / "raw", pixels, 1024, None)
    files = [file for file in (path / "c").rglob("*") if file.is_file()]

    def read(part: list[Path]) -> None:
        room = bytearray(SIDE * SIDE)
        for file in part:
            with file.open("rb", buffering=0) as stream:
                stream.readinto(room)

    check(fc.count(path, workers=THREADS), pixels)
    alone, counting = medians(
        rounds, lambda: in_threads(read, files), lambda: fc.count(path, workers=THREADS)
    )
    yield {"what": "uncompressed: reading alone", "ratio": alone / counting, "floor": 0.5}
    sharded = write(folder / "shards", pixels, 256, ZstdCodec(), shards=(1, SIDE, SIDE))
    plain = write(folder / "chunks", pixels, 256, ZstdCodec())
    check(fc.count(sharded, workers=THREADS), pixels)
    stored = [file.read_bytes() for file in (plain / "c").rglob("*") if file.is_file()]

    def undo(part: list[bytes]) -> None:
        for chunk in part:
            zstd.decompress(chunk)

    alone, counting = medians(
        rounds, lambda: in_threads(undo, stored), lambda: fc.count(sharded, workers=THREADS)
    )
    yield {"what": "shards of 64 KiB: decode alone", "ratio": alone / counting, "floor": 0.75}


# ---- against other ways ----


def against_others(folder: Path, images: int, rounds: int) -> Iterator[dict[str, Any]]:
    import dask.array as da
    import tensorstore as ts

    pixels = masks(VOC_RUN, images)
    for side, floor in ((1024, 20.0), (256, 40.0)):
        path = write(folder / f"others {side}", pixels, side, ZstdCodec())
        table = kernels.table(np.dtype("u1"))

        def with_dask(path: Path = path) -> Any:
            array = da.from_zarr(zarr.open_array(path, mode="r"))
            return da.bincount(array.ravel(), minlength=31).compute(num_workers=THREADS)

        def with_zarr(path: Path = path, table: Any = table) -> None:
            array = zarr.open_array(path, mode="r")
            for image in range(0, array.shape[0], 4):
                table.add(array[image : image + 4])

        def with_tensorstore(path: Path = path, table: Any = table) -> None:
            spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
            array = ts.open(spec, read=True).result()
            for image in range(0, array.shape[0], 4):
                table.add(array[image : image + 4].read().result())

        def with_zarrs(path: Path = path) -> None:
            import zarrs  # noqa: F401  it registers its pipeline

            with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
                with_zarr(path)

        ways = [with_zarr, with_tensorstore, with_zarrs]
        slow, *others, ours = medians(
            rounds, with_dask, *ways, lambda path=path: fc.count(path, workers=THREADS)
        )
        what = f"{side * side >> 10} KiB chunks"
        yield {"what": f"{what}: da.bincount", "ratio": slow / ours, "floor": floor}
        best = min(zip(others, ("zarr-python", "tensorstore", "zarrs"), strict=True))
        yield {"what": f"{what}: {best[1]}, our kernel", "ratio": best[0] / ours, "floor": 1.7}


# ---- what need not be read ----


def free_chunks(folder: Path, images: int, rounds: int) -> Iterator[dict[str, Any]]:
    from unittest import mock

    from fastcounts.sources.memo import Memo

    pixels = masks(CAMVID_RUN, max(images // 4, 16))
    scattered = np.random.default_rng(0).random((pixels.shape[0], 4, 4)) < 0.95
    pixels[np.repeat(np.repeat(scattered, 256, 1), 256, 2)] = 0
    path = write(folder / "background", pixels, 256, BloscCodec(typesize=1, shuffle="noshuffle"))
    check(fc.count(path, workers=THREADS), pixels)

    def forgetful() -> None:
        with mock.patch.object(Memo, "look", return_value=None):
            fc.count(path, workers=THREADS)

    without, with_memo = medians(rounds, forgetful, lambda: fc.count(path, workers=THREADS))
    yield {"what": "95 % background: without memo", "ratio": without / with_memo, "floor": 5.0}
    yield _sparse(folder, rounds)


def _sparse(folder: Path, rounds: int) -> dict[str, Any]:
    pixels = masks(VOC_RUN, 100)
    dense = write(folder / "dense", pixels, 128, ZstdCodec())
    sparse = folder / "sparse"
    zarr.create_array(
        sparse, shape=(100, 12800, 12800), chunks=(1, 128, 128), dtype="u1", compressors=ZstdCodec()
    )
    places = np.random.default_rng(0).permutation(1_000_000)[:6400].tolist()
    for number, place in enumerate(places):
        image, rest = divmod(number, 64)
        target = sparse / f"c/{place // 10000}/{place // 100 % 100}/{place % 100}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(dense / f"c/{image}/{rest // 8}/{rest % 8}", target)

    def listing() -> int:
        return sum(1 for file in (sparse / "c").rglob("*"))

    counts = fc.count(sparse, workers=THREADS)
    assert counts.ledger.total == 100 * 12800 * 12800
    assert counts.ledger.filled == counts.ledger.total - pixels.size
    full, holes, listed = medians(
        rounds,
        lambda: fc.count(dense, workers=THREADS),
        lambda: fc.count(sparse, workers=THREADS),
        listing,
    )
    what = "1,000,000 chunks, 0.64 % present: those alone, and a listing"
    return {"what": what, "ratio": (1.3 * full + listed) / holes, "floor": 1.0}


# ---- object stores, memory ----


@contextmanager
def slow_server(answers: dict[str, bytes], delay: float) -> Iterator[str]:
    """A server on the loopback interface that waits before each of its canned answers."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            time.sleep(delay)
            content = answers.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def with_latency(folder: Path, rounds: int, chunks: int = 1000) -> Iterator[dict[str, Any]]:
    import asyncio

    import obstore
    from obstore.store import from_url

    pixels = np.random.default_rng(0).integers(0, 31, (chunks, 512, 512), np.uint8)
    path = write(folder / "remote", pixels, 512, None)
    answers = {
        f"/remote/{file.relative_to(path)}": file.read_bytes()
        for file in path.rglob("*")
        if file.is_file()
    }
    with slow_server(answers, 0.05) as url, zarr.config.set({"async.concurrency": 16}):
        store = from_url(f"{url}/remote", client_options={"allow_http": True})

        async def fetch() -> None:
            gate = asyncio.Semaphore(16)

            async def one(key: str) -> None:
                async with gate:
                    await (await obstore.get_async(store, key)).bytes_async()

            await asyncio.gather(*(one(f"c/{n}/0/0") for n in range(chunks)))

        check(fc.count(f"{url}/remote", workers=THREADS), pixels)
        bare, counting = medians(
            rounds, lambda: asyncio.run(fetch()), lambda: fc.count(f"{url}/remote", workers=THREADS)
        )
    what = f"{chunks} chunks over 50 ms, 16 requests: bare obstore"
    yield {"what": what, "ratio": bare / counting, "floor": 1 / 1.2}


def flat_memory(folder: Path, images: int) -> Iterator[dict[str, Any]]:
    """Compare peaks; ``ru_maxrss`` would not do, since a process inherits that of its parent."""
    peaks = []
    pixels = masks(VOC_RUN, images)
    for times in (1, 8):
        path = write(folder / f"memory {times}", pixels, 1024, ZstdCodec(), times)
        script = (
            "import re, sys, fastcounts; fastcounts.count(sys.argv[1], workers=2);"
            "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout))
    yield {"what": "peak memory of 8 times the pixels", "ratio": peaks[0] / peaks[1], "floor": 0.9}


PARTS: dict[str, Callable[..., Iterator[dict[str, Any]]]] = {
    "decode": against_decoding,
    "read": against_reading,
    "others": against_others,
    "free": free_chunks,
}


def measure(folder: Path, parts: list[str], images: int, rounds: int) -> Iterator[dict[str, Any]]:
    for part in parts:
        if part == "latency":
            yield from with_latency(folder, min(rounds, 3))
        elif part == "memory":
            yield from flat_memory(folder, images)
        else:
            yield from PARTS[part](folder, images, rounds)


PAGE = Path(__file__).parents[1] / "docs" / "zarr.md"
BEGIN, END = "<!-- begin: zarr -->", "<!-- end: zarr -->"


def row(result: dict[str, Any]) -> str:
    """Format the line of one comparison."""
    rate = f"{result['rate']:.1f}" if "rate" in result else "-"
    what, _, baseline = result["what"].partition(": ")
    return f"| {what} | {baseline or '-'} | {rate} | {result['ratio']:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    every = [*PARTS, "latency", "memory"]
    parser.add_argument("parts", nargs="*", default=every, help=f"of {', '.join(every)}")
    parser.add_argument("--images", type=int, default=1024, help="of 1 Mi pixels each")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    given = parser.parse_args()
    results = []
    lines = [
        f"Python {platform.python_version()}, zarr {zarr.__version__}, numcodecs "
        f"{numcodecs.__version__}; two threads, {given.images} Mpx, in the page cache.",
        "",
        "| input | baseline | Gpx/s | speed relative to the baseline |",
        "|---|---|---|---|",
    ]
    print("\n".join(lines))
    with tempfile.TemporaryDirectory() as folder:
        for result in measure(Path(folder), given.parts, given.images, given.rounds):
            results.append(result)
            lines.append(row(result))
            print(lines[-1], flush=True)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))
    if given.write:
        page = PAGE.read_text(encoding="utf-8")
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        PAGE.write_text("\n".join([before + BEGIN, *lines, END]) + after, encoding="utf-8")


if __name__ == "__main__":
    main()
