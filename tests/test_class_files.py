"""Class files in every shape that people have; what could mean two things is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastcounts as fc
from fastcounts.class_files import read_class_text, understand
from fastcounts.classes import Classes, Options
from fastcounts.errors import OptionError
from fastcounts.inputs import read_classes

ROAD = {0: "road", 1: "car"}


ULTRALYTICS = """# a data set
path: ../masks
train: images/train
nc: 2
names:
  0: road  # the ground
  1: car
"""

COCO = {
    "info": {"year": 2026},
    "images": [{"id": 1, "file_name": "a.png"}],
    "annotations": [{"id": 1, "category_id": 7}],
    "categories": [
        {"id": 7, "name": "car", "supercategory": "vehicle", "color": [0, 0, 142]},
        {"id": 0, "name": "road", "supercategory": "ground"},
    ],
}

MAPILLARY = {
    "labels": [
        {"color": [128, 64, 128], "instances": False, "readable": "Road", "name": "flat--road"},
        {"color": [0, 0, 142], "instances": True, "readable": "Car", "name": "object--car"},
    ],
    "version": 1.1,
}

ADE = (
    "Idx,Ratio,Train,Val,Stuff,Name\n1,0.15,11664,1172,1,wall\n2,0.10,6046,612,1,building, edifice"
)

SHAPES: dict[str, tuple[str, str, dict[int, str]]] = {
    "names, one per line": ("names.txt", "road\ncar\n", ROAD),
    "CRLF, BOM, blank lines": ("n.txt", "\ufeffroad\r\n\r\ncar\r\n", ROAD),
    "comments": ("n.txt", "# classes\nroad # the ground\n  # nothing\ncar\n", ROAD),
    "a sharp is no comment": (
        "n.txt",
        "track #1\ntrack #2 left",
        {0: "track #1", 1: "track #2 left"},
    ),
    "quoted names": ("n.txt", "\"road\"\n'car'", ROAD),
    "names with commas in quotes": ("n.txt", '"road, paved"\ncar', {0: "road, paved", 1: "car"}),
    "label and name": ("n.txt", "0 road\n7 fire engine", {0: "road", 7: "fire engine"}),
    "label: name": ("n.txt", "0: road\n1: car", ROAD),
    "label = name": ("n.txt", "0 = road\n1=car", ROAD),
    "name: label": ("n.txt", "road: 0\ncar: 1", ROAD),
    "label, quoted name": ("n.txt", "0 'road'\n1 'car'", ROAD),
    "label and name, tab": ("n.txt", "0\troad\n1\tcar", ROAD),
    "no suffix": ("names", "road\ncar", ROAD),
    "numbers that are names": ("n.txt", "0\n1\n2", {0: "0", 1: "1", 2: "2"}),
    "CSV": ("n.csv", "0,road\n1,car", ROAD),
    "CSV, name first": ("n.csv", "road,0\ncar,1", ROAD),
    "CSV, header": ("n.csv", "id,name\n1,car\n0,road", ROAD),
    "CSV, header the other way": ("n.csv", "name,id\nroad,0\ncar,1", ROAD),
    "CSV, heading 'label'": ("n.csv", "label,name\n0,road\n1,car", ROAD),
    "CSV, heading 'class' of names": ("n.csv", "label,class\n0,road\n1,car", ROAD),
    "CSV, 'label' for the names": ("n.csv", "id,label\n0,road\n1,car", ROAD),
    "CSV, semicolons": ("n.csv", "id;name\n0;road\n1;car", ROAD),
    "CSV, semicolons and commas": (
        "n.csv",
        "0;road, paved\n1;car, van",
        {0: "road, paved", 1: "car, van"},
    ),
    "CSV, quotes": (
        "n.csv",
        '0, "road, paved"\n1,"say ""car"""',
        {0: "road, paved", 1: 'say "car"'},
    ),
    "CSV, a sharp in quotes": ("n.csv", '0,"C # sharp"\n1,car', {0: "C # sharp", 1: "car"}),
    "CSV, colours": ("n.csv", "name,r,g,b,id\nroad,128,64,128,0\ncar,0,0,142,1", ROAD),
    "CSV, colours, no header": ("n.csv", "0,road,128,64,128\n1,car,0,0,142", ROAD),
    "CSV, names with a heading": ("n.csv", "name\nroad\ncar", ROAD),
    "CSV in .txt": ("n.txt", "0,road\n1,car", ROAD),
    "CSV, index of pandas": ("n.csv", ",id,name\n0,0,road\n1,1,car", ROAD),
    "TSV": ("n.tsv", "id\tname\n0\troad, paved\n1\tcar", {0: "road, paved", 1: "car"}),
    "ADE20K": (
        "objectInfo150.csv",
        ADE.replace("building, edifice", '"building, edifice"'),
        {1: "wall", 2: "building, edifice"},
    ),
    "ADE20K, tabs": (
        "objectInfo150.txt",
        ADE.replace(", ", "\0").replace(",", "\t").replace("\0", ", "),
        {1: "wall", 2: "building, edifice"},
    ),
    "JSON, names": ("n.json", '["road", "car"]', ROAD),
    "JSON, label to name": ("n.json", '{"0": "road", "1": "car"}', ROAD),
    "JSON, name to label": ("n.json", '{"road": 0, "car": 1}', ROAD),
    "JSON, name to label as text": ("n.json", '{"road": "0", "car": "1"}', ROAD),
    "JSON, objects": ("n.json", '[{"id": 1, "name": "car"}, {"id": 0, "name": "road"}]', ROAD),
    "JSON, id2label": (
        "config.json",
        json.dumps(
            {
                "architectures": ["X"],
                "id2label": {"0": "road", "1": "car"},
                "label2id": {"road": 0, "car": 1},
            }
        ),
        ROAD,
    ),
    "JSON, COCO": ("instances.json", json.dumps(COCO), {0: "road", 7: "car"}),
    "JSON, COCO categories alone": (
        "c.json",
        json.dumps(COCO["categories"]),
        {0: "road", 7: "car"},
    ),
    "JSON, Mapillary": ("config.json", json.dumps(MAPILLARY), {0: "flat--road", 1: "object--car"}),
    "JSON without suffix": ("names", ' {"0": "road", "1": "car"}', ROAD),
    "YAML, Ultralytics": ("data.yaml", ULTRALYTICS, ROAD),
    "YAML, Ultralytics, list": ("data.yaml", "nc: 2\nnames: [road, car]\n", ROAD),
    "YAML, Ultralytics, .yml": ("data.yml", "names:\n- road\n- car\n", ROAD),
    "YAML, label to name": ("n.yaml", "0: road\n1: car", ROAD),
    "YAML, name to label": ("n.yaml", "road: 0\ncar: 1", ROAD),
    "YAML, list": ("n.yaml", "- road\n- car", ROAD),
    "YAML, objects": ("n.yaml", "- id: 1\n  name: car\n- {id: 0, name: road}", ROAD),
    "YAML, text that YAML 1.1 takes for truth": (
        "n.yaml",
        "0: no\n1: on\n2: 1e3",
        {0: "no", 1: "on", 2: "1e3"},
    ),
    "YAML without suffix": ("data", ULTRALYTICS, ROAD),
    "YAML list in .txt": ("n.txt", "- road\n- car", ROAD),
    "TOML, list": ("n.toml", 'names = ["road", "car"]', ROAD),
    "TOML, label to name": ("n.toml", '0 = "road"\n1 = "car"', ROAD),
    "TOML, name to label": ("n.toml", "[classes]\nroad = 0\ncar = 1", ROAD),
    "TOML, tables": (
        "n.toml",
        '[[classes]]\nid = 0\nname = "road"\n[[classes]]\nid = 1\nname = "car"',
        ROAD,
    ),
    "TOML without suffix": ("n", '[classes]\n0 = "road"\n1 = "car"', ROAD),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes__are_read_from_files(tmp_path: Path, shape: str) -> None:
    name, text, expected = SHAPES[shape]
    path = tmp_path / name
    path.write_bytes(text.encode())
    for given_path in (path, str(path)):
        assert dict(Classes.parse(given_path).assigned) == expected  # type: ignore[union-attr]
    assert dict(Options.parse(classes=read_classes(str(path))).classes.assigned) == expected  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "data",
    [
        ["road", "car"],
        {"0": "road", "1": "car"},
        {"road": 0, "car": 1},
        {0: "road", 1: "car"},
        [{"id": 0, "name": "road"}, {"id": 1, "name": "car"}],
        {"names": {"0": "road", "1": "car"}, "nc": 2},
        {"id2label": {"0": "road", "1": "car"}},
    ],
    ids=str,
)
def test_shapes__are_read_from_python(data: Any) -> None:
    counts = fc.count(np.array([0, 1, 1], np.uint8), classes=data)
    assert counts.names == {0: "road", 1: "car"}


def test_shapes__in_utf_16() -> None:
    assert read_class_text("0,road\r\n1,Straße".encode("utf-16"), "n.csv") == {
        0: "road",
        1: "Straße",
    }


def test_shapes__of_one_name_fold() -> None:
    counts = fc.count(np.array([0, 1, 2], np.uint8), classes={"road": 0, "car": 1} | {"van": 2})
    assert counts.members == {}
    folded = Classes.parse(understand({"0": "road", "1": "car", "2": "car"}, "n"))
    assert folded is not None
    assert folded.members == {1: (1, 2)}


REFUSED: dict[str, tuple[str, str, str]] = {
    "two numbers": ("n.csv", "1,2\n3,4", r"line 1: '1,2' may be label 1 with the name '2'"),
    "two numbers, text": ("n.txt", "1 2\n3 4", "line 1: '1 2' may be a label and a name"),
    "two numbers, JSON": ("n.json", '{"1": "2"}', "may be label 1 with the name '2', or label 2"),
    "numbers that may be labels": ("n.txt", "7\n8", "may be labels, or the names of"),
    "numbers that may be labels, JSON": ("n.json", '["7", "8"]', "may be labels, or the names of"),
    "names that end in numbers": ("n.txt", "lane 1\nlane 2", r"line 1: 'lane 1' may be label 1"),
    "a line without a label": (
        "n.txt",
        "0 road\ncar\n2 van",
        "line 2: 'car' has no label and a name",
    ),
    "a row too short": ("n.csv", "0,road\n1", "line 2: expected 2 columns with ','"),
    "a name with a comma": ("n.txt", "road\nbuilding, other", "line 2: expected 1 columns"),
    "names in one line": ("n.csv", "road,car,sky", "line 1: expected 'label,name'"),
    "heading that is not known": (
        "n.csv",
        "Nummer,Klasse\n0,road",
        "line 1: expected 'label,name'",
    ),
    "a label that is none": (
        "n.csv",
        "id,name\n0,road\nx,car\n2,van",
        "line 3: expected 'label,name'",
    ),
    "a label twice": ("n.csv", "id,name\n0,road\n\n0,car", "line 4: label 0 stands twice"),
    "a label twice, text": ("n.txt", "0 road\n00 car", "line 2: label 0 stands twice"),
    "a label twice, YAML": ("n.yaml", "0: road\n0: car", "0: it stands twice"),
    "a label twice, names": ("n.json", '{"road": 0, "car": 0}', "label 0 stands twice"),
    "an empty name": ("n.csv", "0,road\n1,", "line 2: the name is empty"),
    "colours only": ("class_dict.csv", "name,r,g,b\nroad,128,64,128", "colours are no labels"),
    "two columns of labels": ("n.csv", "id,trainId,name\n7,0,road\n8,1,car", "'id' and 'trainid'"),
    "two fields of labels": (
        "n.json",
        '[{"id": 7, "trainId": 0, "name": "road"}]',
        "'id' and 'trainId'",
    ),
    "two columns of names": (
        "n.csv",
        "id,title,readable\n0,a,b",
        "'title' and 'readable' may both",
    ),
    "two fields of classes": (
        "n.json",
        '{"names": ["road"], "classes": ["car"]}',
        "'names' and 'classes'",
    ),
    "a heading or a name": ("n.txt", "name\nroad", "line 1: 'name' may be a heading"),
    "no names": ("n.csv", "id,area\n0,5", "line 1: no column of names"),
    "one text": ("n.yaml", "road\ncar", "line 1: the YAML is one text"),
    "broken JSON": ("n.json", "0: road", "no JSON"),
    "broken YAML": ("n.yaml", "names: [road", "no YAML"),
    "broken TOML": ("n.toml", "road\ncar", "no TOML"),
    "markup": ("n.xml", "<classes/>", "line 1: markup"),
    "nested lists": ("n.json", '[["road", 0]]', "entry 0 is"),
    "mixed mapping": ("n.json", '{"0": "road", "car": 1}', "the other way round"),
    "neither is a label": ("n.json", '{"a": "b"}', "has no label"),
    "a fraction": ("n.json", '{"0.5": "road"}', "has no label"),
    "no name": ("n.json", '[{"id": 0}]', "no object has a 'name'"),
    "half of the labels": (
        "n.json",
        '[{"id": 0, "name": "a"}, {"name": "b"}]',
        "entry 1: it has no 'id'",
    ),
    "nothing": ("n.txt", "# road\n\n", "names no class"),
    "nothing, JSON": ("n.json", "{}", "names no class"),
    "no text": ("n.txt", "\0\1", "not a text file"),
    "truth": ("n.json", '{"road": true}', "has no label"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_refused__with_line_and_reading(tmp_path: Path, fault: str) -> None:
    name, text, says = REFUSED[fault]
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(OptionError, match=says) as caught:
        fc.count(np.zeros(3, np.uint8), classes=path)
    assert str(caught.value).startswith(f"classes: {path}")
    assert "\n" not in str(caught.value)
    with pytest.raises(OptionError, match=says) as caught:
        read_classes(str(path))
    assert str(caught.value).startswith(f"--classes: {path}")


@pytest.mark.parametrize(
    "data", [{"1": "2"}, {"a": "b"}, {"1": 2}, [{"id": 1}], {"0": 1.5}], ids=str
)
def test_refused__in_python(data: Any) -> None:
    with pytest.raises(OptionError, match=r"^classes: \S"):
        fc.count(np.zeros(3, np.uint8), classes=data)


def test_refused__aliases_that_explode() -> None:
    """Ten levels of ten aliases each are ten thousand million names; none is spelled out."""
    lines = ["l0: &l0 [a, a, a, a, a, a, a, a, a, a]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(OptionError) as caught:
        read_class_text("\n".join(lines).encode(), "n.yaml")
    assert len(str(caught.value)) < 1000


def test_refused__python_objects_in_yaml(tmp_path: Path) -> None:
    target = tmp_path / "made"
    text = f'0: !!python/object/apply:os.mkdir ["{target}"]'
    with pytest.raises(OptionError):
        read_class_text(text.encode(), "n.yaml")
    assert not target.exists()


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(OptionError, match=r"classes: 'nope\.csv' is neither a number nor a file"):
        fc.count(np.zeros(3, np.uint8), classes="nope.csv")
    assert Options.parse(classes="3") == Options.parse(classes=3)


def test_labels_may_be_text() -> None:
    assert Options.parse(ignore="255") == Options.parse(ignore=["255"]) == Options.parse(ignore=255)
    with pytest.raises(OptionError, match="ignore: expected a whole number, got 'void'"):
        Options.parse(ignore="void")


_NAMES = st.lists(
    st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S", "Zs"]), min_size=1)
    .map(str.strip)
    .filter(bool),
    min_size=1,
    max_size=6,
)


@given(_NAMES, st.sampled_from(["", ".json", ".yaml", ".txt"]))
def test_json__names_survive_whatever_they_are(names: list[str], suffix: str) -> None:
    """As a mapping from label to name, no name is taken for anything else."""
    text = json.dumps({str(label): name for label, name in enumerate(names)}, ensure_ascii=True)
    try:
        found = read_class_text(text.encode(), f"n{suffix}")
    except OptionError as error:
        ours = ("may be label", "the other way round")
        assert any(word in str(error) for word in ours)  # noqa: PT017  either is right
        return
    assert found == dict(enumerate(names))


@given(
    st.binary(max_size=60), st.sampled_from(["", ".json", ".yaml", ".toml", ".csv", ".tsv", ".txt"])
)
def test_anything__is_classes_or_an_error_of_ours(content: bytes, suffix: str) -> None:
    try:
        found = read_class_text(content, f"n{suffix}")
    except OptionError as error:
        assert "\n" not in str(error)  # noqa: PT017  either is right
        return
    assert found


_WORDS = [*"01,;:-#\"'\t\n{}[]= ", "road", "car", "names:", "id", "name", "\n"]


@given(st.lists(st.sampled_from(_WORDS), max_size=14).map("".join))
def test_anything__like_a_class_file(text: str) -> None:
    for suffix in ("", ".yaml", ".csv", ".toml"):
        try:
            found = read_class_text(text.encode(), f"n{suffix}")
        except OptionError:
            continue
        assert all(
            isinstance(name, str) for name in (found if isinstance(found, list) else found.values())
        )
