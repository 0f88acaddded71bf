"""Arrays that are added up although they call one label differently: a warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import fastcounts as fc
from fastcounts import cli
from fastcounts.engine import Request, run
from fastcounts.errors import FastcountsWarning, StrictError

MASK = np.arange(12, dtype="u1").reshape(3, 4) % 3


def write(path: Path, **images: dict[int, str] | None) -> Path:
    """Write an image with label images, each with the classes of its labels."""
    root = zarr.create_group(path)
    root.attrs["ome"] = {"multiscales": [{"datasets": [{"path": "0"}]}]}
    labels = root.create_group("labels")
    labels.attrs["ome"] = {"labels": list(images)}
    for name, classes in images.items():
        properties = [{"label-value": n, "class": one} for n, one in (classes or {}).items()]
        group = labels.create_group(name)
        group.attrs["ome"] = {
            "multiscales": [{"datasets": [{"path": "0"}]}],
            "image-label": {"properties": properties},
        }
        group.create_array("0", data=MASK)
    return path


def notices(target: Any, **options: Any) -> list[dict[str, str]]:
    counts = run(Request.parse(target, **options))
    found: list[dict[str, str]] = counts.provenance["runs"][0].get("notices", [])
    assert all(notice["code"] == "different-names" for notice in found)
    return found


def test_one_label_of_two_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "i.zarr", nuclei={1: "nucleus"}, tissue={1: "tumour", 2: "stroma"})
    (notice,) = notices(path, every=True)
    assert notice["severity"] == "warning"
    assert notice["message"].startswith(
        f"label 1 is 'nucleus' in {path}/labels/nuclei/0, 'tumour' in {path}/labels/tissue/0 "
        "(and 1 more labels), and their pixels were added up; "
    )
    with pytest.raises(StrictError, match="count each array by its name"):
        notices(path, every=True, strict=True)
    assert notices(path, every=True, classes={1: "cell", 0: None, 2: None}) == []
    assert notices(path / "labels" / "nuclei") == []


def test_one_label_that_only_one_array_names(tmp_path: Path) -> None:
    path = write(tmp_path / "i.zarr", nuclei={1: "nucleus"}, tissue=None)
    (notice,) = notices(path, every=True)
    assert (
        f"'nucleus' in {path}/labels/nuclei/0, without a name in {path}/labels/tissue/0"
        in (notice["message"])
    )
    apart = [path / "labels" / "nuclei", path / "labels" / "tissue"]
    assert notices(apart) == []  # whoever lists them knows them


@pytest.mark.parametrize(
    "images",
    [
        {"a": {1: "cell"}, "b": {1: "cell"}},
        {"a": None, "b": None},
        {"a": {9: "never met"}, "b": {9: "either"}},
        {"a": {1: "cell"}},
    ],
)
def test_nothing_is_said_of_names_that_agree(tmp_path: Path, images: Any) -> None:
    assert notices(write(tmp_path / "i.zarr", **images), every=True, strict=True) == []


def test_files_of_different_classes(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / f"{n}.zarr", labels={1: name})
        for n, name in enumerate(("cat", "dog", "dog", "cow"))
    ]
    with pytest.warns(FastcountsWarning, match=r"label 1 is 'cat' .*, 'dog' .*, 'cow' "):
        counts = fc.count(paths)
    assert counts.names == {1: "cat or cow or dog"}
    merged = sum(fc.count(path) for path in paths)
    assert merged == counts
    assert merged.names == counts.names


def test_in_the_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "i.zarr", nuclei={1: "nucleus"}, tissue={1: "tumour"})
    for strict, code in (([], 0), (["--strict"], 1)):
        with pytest.raises(SystemExit) as end:
            cli.main(["count", str(path), "--all", *strict])
        assert end.value.code == code
        assert "label 1 is 'nucleus' in" in capsys.readouterr().err
