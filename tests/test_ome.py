"""Groups: the label images of OME-Zarr, at the highest resolution, never the picture."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import fastcounts as fc
from fastcounts import cli
from fastcounts.errors import AmbiguousSource, UnsupportedSource


def scales(group: zarr.Group, version: str, pixels: np.ndarray, label: Any = None) -> None:
    """Make a group an image of two resolutions."""
    about: dict[str, Any] = {
        "multiscales": [{"version": version, "datasets": [{"path": "0"}, {"path": "1"}]}]
    }
    if label is not None:
        about["image-label"] = label
    group.attrs.update({"ome": {"version": version, **about}} if version == "0.5" else about)
    for path, part in (("0", pixels), ("1", pixels[::2, ::2])):
        array = group.create_array(path, shape=part.shape, dtype=part.dtype, chunks=(8, 8))
        array[...] = part


def name_labels(group: zarr.Group, version: str, names: list[str]) -> None:
    group.attrs.update(
        {"ome": {"version": version, "labels": names}} if version == "0.5" else {"labels": names}
    )


@pytest.fixture(params=["0.4", "0.5"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A picture of 200s with one label image, and a second that is not listed."""
    version = request.param
    path = tmp_path / "image.zarr"
    root = zarr.create_group(path, zarr_format=2 if version == "0.4" else 3)
    scales(root, version, np.full((16, 16), 200, np.uint8))
    labels = root.create_group("labels")
    nuclei = np.arange(256, dtype=np.int32).reshape(16, 16) // 64
    scales(labels.create_group("nuclei"), version, nuclei, {"version": version})
    name_labels(labels, version, ["nuclei"])
    return path, version


def counted(path: Path, **options: Any) -> dict[int, int]:
    counts = fc.count(path, **options)
    return dict(zip(counts.labels.tolist(), counts.pixels.tolist(), strict=True))


QUARTERS = {0: 64, 1: 64, 2: 64, 3: 64}


def test_image__is_counted_by_its_only_label_image(image: tuple[Path, str]) -> None:
    path, _ = image
    assert counted(path) == QUARTERS
    for below in ("labels", "labels/nuclei", "labels/nuclei/0"):
        assert counted(path / below) == QUARTERS
    assert fc.count(path).provenance["runs"][0]["sources"] == [str(path / "labels/nuclei/0")]


def test_image__of_several_label_images_asks_which(image: tuple[Path, str]) -> None:
    path, version = image
    labels = zarr.open_group(path / "labels", mode="r+")
    scales(labels.create_group("cells"), version, np.ones((16, 16), np.uint16), {})
    name_labels(labels, version, ["nuclei", "cells"])
    with pytest.raises(AmbiguousSource, match=r"labels/nuclei/0.*labels/cells/0"):
        fc.count(path)
    assert counted(path / "labels/cells") == {1: 256}


def test_image__without_labels_is_refused(image: tuple[Path, str]) -> None:
    path, _ = image
    root = zarr.open_group(path, mode="r+")
    del root["labels"]
    with pytest.raises(UnsupportedSource, match=r"image\.zarr: is an image without label images"):
        fc.count(path)


def test_collection__of_images_finds_all_label_images(tmp_path: Path) -> None:
    root = zarr.create_group(tmp_path / "plate.zarr")
    for number in range(2):
        image = root.create_group(f"{number}")
        scales(image, "0.5", np.full((16, 16), 9, np.uint8))
        labels = image.create_group("labels")
        scales(labels.create_group("cells"), "0.5", np.full((16, 16), number, np.uint8), {})
        name_labels(labels, "0.5", ["cells"])
    with pytest.raises(AmbiguousSource, match="0/labels/cells/0"):
        fc.count(tmp_path / "plate.zarr")
    from fastcounts.sources import open_source

    source = open_source(tmp_path / "plate.zarr", every=True)
    assert [info.name.rpartition("plate.zarr/")[2] for info in source.arrays] == [
        "0/labels/cells/0",
        "1/labels/cells/0",
    ]


def test_group__of_one_array_is_that_array(tmp_path: Path) -> None:
    root = zarr.create_group(tmp_path / "group.zarr")
    root.create_array("deep/labels", shape=(4,), chunks=(2,), dtype="u1")[...] = 3
    root.create_array("heights", shape=(4,), chunks=(2,), dtype="f4")[...] = 3
    assert counted(tmp_path / "group.zarr") == {3: 4}


@pytest.mark.parametrize(
    "about",
    [
        {"multiscales": []},
        {"multiscales": [{}]},
        {"multiscales": [{"datasets": [{"path": "9"}]}]},
        {"multiscales": 3, "image-label": {}},
        {"labels": ["gone"]},
        {"ome": {"labels": [7]}},
    ],
)
def test_metadata__that_is_broken_is_an_error_in_words(tmp_path: Path, about: Any) -> None:
    root = zarr.create_group(tmp_path / "broken.zarr")
    root.attrs.update(about)
    root.create_array("0", shape=(4,), chunks=(2,), dtype="u1")[...] = 3
    with pytest.raises(UnsupportedSource, match=r"broken\.zarr"):
        fc.count(tmp_path / "broken.zarr")


# ---- names ----


PROPERTIES = [
    {"label-value": 0, "area (pixels)": 1200, "class": "background"},
    {"label-value": 1, "class": "neuron", "name": "cell 17"},
    {"label-value": 2, "name": "glia"},
    {"label-value": 3, "area (pixels)": 7},
    {"label-value": 9, "class": "never met"},
]
CALLED = {0: "background", 1: "neuron", 2: "glia"}


def say(path: Path, version: str, **about: Any) -> None:
    """Write what a label image says of its labels."""
    group = zarr.open_group(path, mode="r+")
    attributes = dict(group.attrs)
    (attributes["ome"] if version == "0.5" else attributes)["image-label"] = about
    group.attrs.update(attributes)


def test_names__are_found_however_the_label_image_is_given(image: tuple[Path, str]) -> None:
    path, version = image
    say(path / "labels" / "nuclei", version, properties=PROPERTIES, colors=[{"label-value": 3}])
    for given in ("", "labels", "labels/nuclei", "labels/nuclei/0", "labels/nuclei/1"):
        assert fc.count(path / given).names == CALLED, given
    root = zarr.open_group(path, mode="r")
    for member in (root, root["labels/nuclei"], root["labels/nuclei/0"]):
        assert fc.count(member).names == CALLED
    assert counted(path) == QUARTERS
    assert fc.count(path, classes={1: "cell"}).names == {1: "cell"}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_names__in_stores_of_every_kind(version: str, tmp_path: Path) -> None:
    memory, folder = zarr.storage.MemoryStore(), tmp_path / "image"
    for store in (memory, folder):
        group = zarr.create_group(
            store, path="labels/cells", zarr_format=2 if version == "0.4" else 3
        )
        pixels = np.ones((16, 16), np.uint8)
        scales(group, version, pixels, {"properties": [{"label-value": 1, "class": "cell"}]})
    shutil.make_archive(str(folder), "zip", folder)
    for target in (
        memory,
        zarr.open_array(memory, path="labels/cells/0", mode="r"),
        tmp_path / "image.zip",
        tmp_path / "image.zip" / "labels" / "cells" / "0",
    ):
        assert fc.count(target).names == {1: "cell"}


def test_names__of_a_resolution_that_is_a_group_of_one_array(tmp_path: Path) -> None:
    root = zarr.create_group(tmp_path / "nuclei.zarr")
    root.attrs["ome"] = {
        "multiscales": [{"datasets": [{"path": "s0/image"}]}],
        "image-label": {"properties": PROPERTIES},
    }
    array = root.create_array("s0/image", shape=(4,), chunks=(2,), dtype="u1")
    array[...] = [0, 1, 2, 3]
    assert fc.count(tmp_path / "nuclei.zarr").names == CALLED
    assert fc.count(tmp_path / "nuclei.zarr" / "s0" / "image").names == CALLED


def test_names__that_two_labels_share_do_not_fold_them(image: tuple[Path, str]) -> None:
    path, version = image
    same = [{"label-value": label, "class": "cell"} for label in (1, 2)]
    say(path / "labels" / "nuclei", version, properties=same)
    counts = fc.count(path)
    assert counts.names == {1: "cell", 2: "cell"}
    assert counts.members == {}
    assert fc.Counts.from_dict(counts.to_dict()) == counts


@pytest.mark.filterwarnings("ignore:label 1 is:fastcounts.errors.FastcountsWarning")
def test_names__that_differ_are_all_kept(tmp_path: Path) -> None:
    """Parts of one data set merge whatever each of them calls its labels."""
    paths = []
    for number, name in enumerate(["neuron", "glia", None]):
        group = zarr.create_group(tmp_path / f"{number}.zarr")
        label = {"properties": [{"label-value": 1, "class": name}]} if name else {}
        scales(group, "0.5", np.full((16, 16), min(number, 1), np.uint8), label)
        paths.append(tmp_path / f"{number}.zarr")
    apart = [fc.count(path) for path in paths]
    assert [counts.names for counts in apart] == [{}, {1: "glia"}, {}]
    merged, run = sum(apart), fc.count(paths)
    assert merged.names == run.names == sum(reversed(apart)).names == {1: "glia or neuron"}
    assert merged.pixels.tolist() == [256, 512]


@pytest.mark.parametrize(
    "properties",
    [
        3,
        [3],
        {"label-value": 1},
        [{}],
        [{"class": "cell"}],
        [{"label-value": "1", "class": "cell"}],
        [{"label-value": 0.5, "class": "cell"}],
        [{"label-value": 1, "class": 3}],
        [{"label-value": 1, "class": " "}],
        [{"label-value": 1, "class": "\x1b[31m"}],
        None,
    ],
)
def test_names__of_broken_metadata_are_none(image: tuple[Path, str], properties: Any) -> None:
    path, version = image
    say(path / "labels" / "nuclei", version, properties=properties)
    assert fc.count(path).names == {}


def test_names__of_an_image_above_that_is_no_json(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "0", shape=(4,), chunks=(2,), dtype="u1")[...] = 3
    (tmp_path / "zarr.json").write_text("{")
    assert fc.count(tmp_path / "0").names == {}


def test_names__that_look_like_markup_are_printed_as_they_are(
    image: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path, version = image
    odd = [{"label-value": 1, "class": "[/red] cell [bold]"}]
    say(path / "labels" / "nuclei", version, properties=odd)
    with pytest.raises(SystemExit) as end:
        cli.main(["count", str(path)])
    assert end.value.code == 0
    assert "1 [/red] cell [bold]" in capsys.readouterr().out


# ---- all label images ----


def test_all__counts_the_highest_resolution_of_every_label_image(
    image: tuple[Path, str], tmp_path: Path
) -> None:
    path, version = image
    labels = zarr.open_group(path / "labels", mode="r+")
    scales(labels.create_group("cells"), version, np.full((16, 16), 9, np.uint16), {})
    name_labels(labels, version, ["nuclei", "cells"])
    with pytest.raises(SystemExit) as end:
        cli.main(["count", str(path), "--all", "-o", str(tmp_path / "all.json")])
    assert end.value.code == 0
    counts = fc.load(tmp_path / "all.json")
    assert dict(zip(counts.labels.tolist(), counts.pixels.tolist(), strict=True)) == QUARTERS | {
        9: 256
    }
    assert counts.items == 2


@pytest.mark.parametrize("again", ["nuclei", "nuclei/", "nuclei/0"])
def test_image__that_names_a_label_image_twice_has_it_once(
    image: tuple[Path, str], again: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, version = image
    name_labels(zarr.open_group(path / "labels", mode="r+"), version, ["nuclei", again])
    assert counted(path) == QUARTERS
    with pytest.raises(SystemExit):
        cli.main(["count", str(path), "--all", "--json"])
    assert '"total": 256' in capsys.readouterr().out
