"""The demonstration makes the data that the question tells of."""

from __future__ import annotations

import shlex

import numpy as np
import pytest
import zarr

import fastcounts as fc
from fastcounts import cli
from fastcounts.demo import CLASSES, KEPT, SIDE, demonstrate, write_masks, write_pngs


@pytest.fixture
def run(capsys):
    """Run the command line in this process: (exit code, standard output, standard error)."""

    def call(*words):
        with pytest.raises(SystemExit) as end:
            cli.main(list(words))
        printed = capsys.readouterr()
        return end.value.code, printed.out, printed.err

    return call


def test_masks_are_those_of_the_question(tmp_path):
    write_masks(tmp_path / "masks.zarr", 3)
    masks = zarr.open_array(tmp_path / "masks.zarr", mode="r")[...]
    assert masks.shape == (3, SIDE, SIDE)
    assert masks.dtype == np.uint8
    shares = np.bincount(masks.ravel(), minlength=CLASSES) / masks.size
    assert 0.58 < shares[0] < 0.62
    assert np.unique(masks).tolist() == list(range(CLASSES))


def test_masks_are_regions_and_not_noise(tmp_path):
    write_masks(tmp_path / "masks.zarr", 1)
    mask = zarr.open_array(tmp_path / "masks.zarr", mode="r")[0]
    changes = np.count_nonzero(mask[:, 1:] != mask[:, :-1]) + SIDE
    assert mask.size / changes > 30  # mean run, in pixels


def test_masks_are_the_same_every_time(tmp_path):
    write_masks(tmp_path / "a.zarr", 2)
    write_masks(tmp_path / "b.zarr", 2)
    first, second = (zarr.open_array(tmp_path / f"{name}.zarr", mode="r")[...] for name in "ab")
    assert np.array_equal(first, second)


def test_the_answer_holds(tmp_path):
    found = demonstrate(tmp_path, 2)
    masks = zarr.open_array(tmp_path / "masks.zarr", mode="r")[...]
    assert found.counts.pixels.tolist() == np.bincount(masks.ravel()).tolist()
    assert found.counts.items == 2
    pixels = found.counts.pixels
    assert np.allclose(found.inverse.values, pixels.max() / pixels, rtol=1e-15)
    assert np.isclose((found.equal_cost.values * pixels).sum() / pixels.sum(), 1)
    costs = found.equal_cost.diagnostics["constant_predictors"][0]
    assert np.ptp(costs["by_pixels"]) < 1e-12
    assert np.ptp(costs["by_weights"]) < 1e-12
    assert np.ptp(costs["before"]) > 4


def test_what_is_kept_holds_the_same_masks(tmp_path):
    found = demonstrate(tmp_path, 2, keep=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(KEPT)
    assert fc.load(tmp_path / "counts.json") == found.counts
    masks = zarr.open_array(tmp_path / "masks.zarr", mode="r")[...][:, ::4, ::4]
    kept = fc.count(tmp_path / "masks", classes=CLASSES)
    assert kept.pixels.tolist() == np.bincount(masks.ravel(), minlength=CLASSES).tolist()
    assert kept.items == 2


def test_nothing_else_is_written_unless_it_is_kept(tmp_path):
    demonstrate(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["masks.zarr"]


def test_few_png_files_are_written(tmp_path):
    zarr.create_array(tmp_path / "masks.zarr", shape=(70, 8, 8), dtype="u1", chunks=(1, 8, 8))
    write_pngs(tmp_path / "masks.zarr", tmp_path / "masks")
    assert len(list((tmp_path / "masks").iterdir())) == 64


@pytest.mark.parametrize("name", KEPT)
def test_nothing_is_overwritten(run, tmp_path, name):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / name).write_text("mine", encoding="utf-8")
    code, _, err = run("demo", "--images", "1", "--keep", str(tmp_path / "kept"))
    assert code == 2
    assert f"{name} exists already" in err
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [name]
    assert (tmp_path / "kept" / name).read_text(encoding="utf-8") == "mine"


def test_commands_to_try_are_printed(run, tmp_path):
    code, out, err = run("demo", "--images", "1", "--keep", str(tmp_path / "my data"))
    assert (code, err) == (0, "")
    lines = [line for line in out.splitlines() if line.startswith("fastcounts ")]
    assert len(lines) == 2
    for line in lines:
        assert run(*shlex.split(line)[1:])[0] == 0
