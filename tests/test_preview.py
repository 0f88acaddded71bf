"""What `fastcounts plan` says of a count, without reading a pixel."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from pngs import png
from zarr.codecs import BloscCodec, BytesCodec, ShardingCodec, ZstdCodec
from zarr.storage import ZipStore

import fastcounts as fc
from fastcounts import cli
from fastcounts.engine import Request, preview
from fastcounts.sources import survey

Run = Callable[..., tuple[int, str, str]]

PIXELS = np.repeat(np.random.default_rng(3).integers(0, 5, (6, 64, 8)), 8, axis=2).astype(np.uint8)
CHUNKS = (1, 32, 32)


def zarr_array(path: Any, **options: Any) -> None:
    """Write the pixels; the last two images are not written, so their chunks do not exist."""
    options = {"chunks": CHUNKS, "compressors": ZstdCodec()} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # codecs that are in no specification
        array = zarr.create_array(
            path, shape=PIXELS.shape, dtype="u1", fill_value=0, overwrite=True, **options
        )
        array[:4] = PIXELS[:4] + 1


def _v3(folder: Path) -> Path:
    zarr_array(folder / "v3.zarr")
    return folder / "v3.zarr"


def _v2(folder: Path) -> Path:
    zarr_array(folder / "v2.zarr", zarr_format=2, compressors=numcodecs.BZ2())
    return folder / "v2.zarr"


def _sharded(folder: Path) -> Path:
    zarr_array(folder / "s.zarr", shards=(1, 64, 64), chunks=(1, 16, 16))
    return folder / "s.zarr"


def _zip(folder: Path) -> Path:
    with ZipStore(folder / "z.zip", mode="w") as store:
        zarr_array(store)
    return folder / "z.zip"


def _fallback(folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the filter is in no specification
        same = zarr.codecs.numcodecs.AsType(encode_dtype="|u1", decode_dtype="|u1")
    shards = ShardingCodec(chunk_shape=(1, 16, 16), codecs=[BytesCodec(), ZstdCodec()])
    zarr_array(folder / "f.zarr", filters=[same], serializer=shards, compressors=None)
    return folder / "f.zarr"


def _npy(folder: Path) -> Path:
    np.save(folder / "masks.npy", PIXELS)
    return folder / "masks.npy"


def _npz(folder: Path) -> Path:
    np.savez_compressed(folder / "masks.npz", a=PIXELS[:2], b=PIXELS[2:])
    return folder / "masks.npz"


def _png(folder: Path) -> Path:
    pytest.importorskip("PIL")
    (folder / "png").mkdir()
    for number, image in enumerate(PIXELS):
        (folder / "png" / f"{number}.png").write_bytes(png(image))
    return folder / "png"


ZARRS = {"v3": _v3, "v2": _v2, "sharded": _sharded, "zip": _zip, "fallback": _fallback}
KINDS = {**ZARRS, "npy": _npy, "npz": _npz, "png": _png}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process: (exit code, standard output, standard error)."""

    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(list(words))
        printed = capsys.readouterr()
        return end.value.code, printed.out, printed.err

    return call


def planned(run: Run, *words: Any) -> dict[str, Any]:
    code, out, err = run("plan", *map(str, words), "--all", "--json")
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


def files_below(folder: Path) -> list[Path]:
    """Chunk files: all but metadata."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in found if not path.name.startswith((".z", "zarr.json"))]


@pytest.mark.parametrize("kind", KINDS)
def test_figures_add_up(run: Run, tmp_path: Path, kind: str) -> None:
    target = KINDS[kind](tmp_path)
    found = planned(run, target, "--items", "array")
    assert found["pixels"] == found["run"]["pixels"] == PIXELS.size
    assert found["decoded_bytes"] == PIXELS.nbytes
    assert found["units"] == found["run"]["units"]
    for name in ("units", "blocks", "pixels", "decoded_bytes", "stored_bytes", "missing"):
        assert found[name] == sum(array[name] for array in found["arrays"]), name
    counts = fc.count(target, items="array", all_arrays=True)
    assert counts.ledger.total == found["pixels"]
    (provenance,) = counts.provenance["runs"]
    assert provenance["workers"] == found["workers"]
    assert provenance["arrays"] == len(found["arrays"])
    code, out, err = run("plan", str(target), "--all")
    assert (code, err) == (0, "")
    assert f"{PIXELS.size:,} pixels" in out


@pytest.mark.parametrize("kind", ZARRS)
def test_missing_and_stored_are_those_of_the_files(run: Run, tmp_path: Path, kind: str) -> None:
    target = KINDS[kind](tmp_path)
    found = planned(run, target)
    if kind == "zip":
        with zipfile.ZipFile(target) as archive:
            entries = [e for e in archive.infolist() if not e.filename.endswith("zarr.json")]
        sizes = [entry.file_size for entry in entries]
    else:
        sizes = [path.stat().st_size for path in files_below(target)]
    per_image = 1 if kind == "sharded" else 4
    assert found["units"] == 6 * per_image
    assert found["missing"] == found["units"] - len(sizes) == 2 * per_image
    assert found["stored_bytes"] == sum(sizes)


@pytest.mark.parametrize("kind", [kind for kind in ZARRS if kind != "zip"])
def test_no_chunk_is_read(run: Run, tmp_path: Path, kind: str) -> None:
    target = KINDS[kind](tmp_path)
    before = planned(run, target)
    for path in files_below(target):
        path.write_bytes(b"\xff" * path.stat().st_size)
    assert run("count", str(target))[0] == 3
    assert planned(run, target) == before


def test_no_pixel_of_a_png_is_read(run: Run, tmp_path: Path) -> None:
    target = _png(tmp_path)
    before = planned(run, target)
    for path in target.iterdir():
        content = path.read_bytes()
        path.write_bytes(content[:40] + bytes(len(content) - 40))
    assert run("count", str(target))[0] == 3
    assert planned(run, target) == before


def test_the_way_is_named(run: Run, tmp_path: Path) -> None:
    ways = {}
    for kind, make in KINDS.items():
        found = planned(run, make(tmp_path))
        ways[kind] = found["arrays"][0]["way"]
    kinds = {kind: way["kind"] for kind, way in ways.items()}
    direct = dict.fromkeys(("v3", "v2", "sharded", "zip"), "chunks")
    files = {"npz": "file", "png": "file"}
    assert kinds == direct | {"fallback": "zarr-python", "npy": "mapped"} | files
    assert ways["v3"]["codecs"] == ways["sharded"]["codecs"] == ["zstd"]
    assert (ways["v3"]["native"], ways["v2"]["native"]) == (True, False)
    assert ways["v2"]["codecs"] == ["bz2"]
    assert ways["fallback"]["obstacle"] == "numcodecs.astype around sharding_indexed"
    assert "through zarr-python" in run("plan", str(tmp_path / "f.zarr"))[1]
    assert "bz2, decoded in Python" in run("plan", str(tmp_path / "v2.zarr"))[1]


def test_blosc_is_named_with_its_shuffle(run: Run, tmp_path: Path) -> None:
    zarr_array(tmp_path / "a.zarr", compressors=BloscCodec(cname="lz4", shuffle="bitshuffle"))
    zarr_array(tmp_path / "b.zarr", zarr_format=2, compressors=numcodecs.Blosc("zstd", shuffle=1))
    for name, expected in (("a.zarr", "blosc lz4 bitshuffle"), ("b.zarr", "blosc zstd shuffle")):
        assert planned(run, tmp_path / name)["arrays"][0]["way"]["codecs"] == [expected]


@pytest.mark.parametrize("kind", KINDS)
def test_parts_make_the_run(run: Run, tmp_path: Path, kind: str) -> None:
    target = KINDS[kind](tmp_path)
    whole = planned(run, target)
    parts = [planned(run, target, "--part", f"{n}/3") for n in range(3)]
    for name in ("units", "pixels", "decoded_bytes", "missing"):
        assert sum(part[name] for part in parts) == whole[name], name
    assert [part["part"] for part in parts] == [[0, 3], [1, 3], [2, 3]]
    assert all(part["run"] == whole["run"] for part in parts)
    if kind in ZARRS:
        assert sum(part["stored_bytes"] for part in parts) == whole["stored_bytes"]
    assert "part 0 of 3" in run("plan", str(target), "--all", "--part", "0/3")[1]


def test_a_region_is_what_is_planned(run: Run, tmp_path: Path) -> None:
    found = planned(run, _v3(tmp_path), "--region", "3:5,:,10:20")
    assert found["pixels"] == 2 * 64 * 10
    assert (found["units"], found["missing"]) == (4, 2)


def test_keys_with_points_are_listed(run: Run, tmp_path: Path) -> None:
    zarr_array(tmp_path / "p.zarr", chunk_key_encoding={"name": "v2", "separator": "."})
    assert planned(run, tmp_path / "p.zarr")["missing"] == 8


def test_what_is_not_listed_is_said_to_be_unknown(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "_MOST_KEYS", 15)
    found = planned(run, _v3(tmp_path))
    assert found["missing"] is found["stored_bytes"] is None
    assert run("plan", str(tmp_path / "v3.zarr"))[1].count("not known without reading") == 2


def test_stores_in_memory_are_not_listed() -> None:
    store = zarr.storage.MemoryStore()
    zarr_array(store)
    found = preview(Request.parse(store))
    assert found.missing is found.stored_bytes is None
    assert found.arrays[0].way.requests == 0


def test_shards_are_read_in_blocks_within_the_budget(run: Run, tmp_path: Path) -> None:
    target = _sharded(tmp_path)
    free = planned(run, target)
    assert (free["units"], free["blocks"]) == (6, 6)
    least = int(run("plan", str(target), "--memory", "1kB")[2].split("; ")[1].split()[0])
    tight = planned(run, target, "--memory", least)
    assert tight["blocks"] == 6 * 16
    assert tight["block_bytes"] == 16 * 16
    assert tight["workers"] == 1
    assert tight["peak_bytes"] <= least < free["peak_bytes"]
    assert fc.count(target, memory=least).ledger.total == PIXELS.size


def test_arrays_that_are_alike_are_one_line(run: Run, tmp_path: Path) -> None:
    out = run("plan", str(_png(tmp_path)))[1]
    assert "and 5 like it" in out
    assert "0.png" in out
    assert "1.png" not in out


def test_all_arrays_of_a_group(run: Run, tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    for name in ("a", "b"):
        group.create_array(name, shape=(4, 4), chunks=(2, 2), dtype="u1")
    assert run("plan", str(tmp_path / "g.zarr"))[0] == 3
    assert len(planned(run, tmp_path / "g.zarr")["arrays"]) == 2


def test_nothing_to_count_is_planned(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "empty.npy", np.zeros((0, 4), np.uint8))
    found = planned(run, tmp_path / "empty.npy")
    assert (found["pixels"], found["units"], found["decoded_bytes"]) == (0, 0, 0)
    assert run("plan", str(tmp_path / "empty.npy"))[0] == 0


def test_bad_input_ends_as_a_count_would(run: Run, tmp_path: Path) -> None:
    target = str(_v3(tmp_path))
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY")
    for words, code, says in (
        ([target, "--memory", "1kB"], 2, "would do"),
        ([target, "--items", "7"], 2, "axis 7"),
        ([target, "--region", "0:99"], 2, "0:99"),
        ([target, "--part", "3/3"], 2, "0 <= i < N"),
        ([target, "--workers", "0"], 2, "workers"),
        ([str(tmp_path / "nope")], 3, "nope"),
        ([str(tmp_path / "broken.npy")], 3, "header"),
        ([], 2, "SOURCE"),
    ):
        ended, out, err = run("plan", *words)
        assert (ended, out) == (code, ""), words
        assert says in err
        assert err.count("\n") == 1
