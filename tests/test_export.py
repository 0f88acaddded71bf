"""Exports: what they hold, and that pasted text runs."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from fastcounts import errors, export, solvers
from fastcounts.counts import Counts

PIXELS = {0: 180, 1: 90, 2: 25, 3: 5}


@pytest.fixture
def weights():
    classes = {0: "road", 1: "car", 2: "sky", 3: "sign"}
    counts = Counts.from_pixels(PIXELS, ignored={255: 20}, classes=classes)
    return solvers.solve(counts, "inverse")


def test_lookup(weights):
    table = weights.lookup(256)
    assert table.dtype == np.float32
    assert table.shape == (256,)
    np.testing.assert_array_equal(table[:4], np.float32([1, 2, 7.2, 36]))
    assert not table[4:].any()
    assert weights.lookup(300, other=1.0)[299] == 1


@pytest.mark.parametrize("size", [3, 0, -1, 2.5, True])
def test_a_table_that_is_too_small(weights, size):
    with pytest.raises(errors.OptionError, match=r"larger size|whole number"):
        weights.lookup(size)


def test_json(weights):
    assert json.loads(export.render(weights, "json")) == weights.to_dict()


def test_csv(weights):
    rows = list(csv.reader(io.StringIO(export.render(weights, "csv"))))
    assert rows[0] == ["label", "name", "pixels", "weight"]
    assert rows[3] == ["2", "sky", "25", "7.2"]


def test_python_is_a_literal(weights):
    space = {}
    exec(export.render(weights, "python", name="class_weight"), space)
    assert space["class_weight"] == weights.as_dict()


def test_mmseg(weights):
    space = {}
    exec(export.render(weights, "mmseg"), space)
    assert space["loss_decode"]["class_weight"] == [1.0, 2.0, 7.2, 36.0]


def test_pasted_text_states_its_convention(weights):
    for form in ("python", "keras", "torch", "mmseg"):
        assert export.render(weights, form).startswith(f"# {weights.convention()}\n")


def test_torch_text_knows_the_ignored_labels(weights):
    text = export.render(weights, "torch")
    assert "ignore_index=255" in text
    counts = Counts.from_pixels(PIXELS, ignored={254: 1, 255: 20})
    both = export.render(solvers.solve(counts, "inverse"), "torch")
    assert "Turn the labels 255 of the mask into 254 first" in both
    none = export.render(solvers.solve(Counts.from_pixels(PIXELS), "inverse"), "torch")
    assert "ignore_index" not in none
    assert "mask.numel()" in none


def test_texts_that_are_indexed_by_label_refuse_gaps():
    weights = solvers.solve(Counts.from_pixels({0: 3, 2: 1}), "inverse", absent="zero")
    for form in ("torch", "mmseg"):
        with pytest.raises(errors.OptionError, match="num_classes=3"):
            export.render(weights, form)
        assert "[1.0, 0.0, 3.0]" in export.render(weights, form, num_classes=3)
        assert "[3.0, 1.0]" in export.render(weights, form, order=[2, 0])
    assert "2: 3.0" in export.render(weights, "keras")


def test_unknown_format(weights):
    with pytest.raises(errors.OptionError, match="give one of json, csv, python"):
        export.render(weights, "yaml")


def test_keras_map_on_arrays(weights):
    mask = np.array([[[0, 3], [255, 1]]], dtype=np.uint8)
    for given in (mask, mask[..., None], mask.astype(np.int64)):
        image, same, weight = weights.keras()("image", given)
        assert image == "image"
        assert same is given
        assert weight.dtype == np.float32
        assert weight.tolist() == [[[1.0, 36.0], [0.0, 2.0]]]


def test_missing_libraries_are_named(weights, monkeypatch):
    for name in ("torch", "tensorflow"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(errors.MissingExtra, match=r"PyTorch.*fastcounts\[frameworks\]"):
        weights.torch()
    with pytest.raises(errors.MissingExtra, match=r"TensorFlow.*fastcounts\[frameworks\]"):
        weights.keras()(None, SimpleNamespace(shape=(2, 2)))


def test_importing_loads_nothing_heavier_than_numpy():
    code = (
        "import sys, fastcounts.solvers, fastcounts.export\n"
        "heavy = {'torch', 'scipy', 'pandas', 'tensorflow', 'keras', 'numba', 'zarr', 'dask'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_missing_pandas_is_named(weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(errors.MissingExtra, match=r"pandas.*fastcounts\[report\]"):
        export.frame(weights)


def test_frame(weights):
    pytest.importorskip("pandas")
    table = export.frame(weights)
    assert table.columns.tolist() == ["label", "name", "pixels", "weight"]
    assert table["weight"].tolist() == weights.values.tolist()
    assert table["name"].tolist() == ["road", "car", "sky", "sign"]


def test_sample_weights_of_any_shape(weights):
    labels = np.array([[0, 255], [3, 1]], dtype=np.uint8)
    assert export.sample_weights(weights, labels).tolist() == [[1.0, 0.0], [36.0, 2.0]]
    assert export.sample_weights(weights, []).tolist() == []
    with pytest.raises(errors.OptionError, match="label 4 has no weight: it is neither one of"):
        export.sample_weights(weights, [0, 4])


def test_focal_alpha_and_log_w(weights):
    assert export.focal_alpha(weights) == [1.0, 2.0, 7.2, 36.0]
    assert all(type(value) is float for value in export.focal_alpha(weights))
    bias = export.log_w(weights, 6 - 2)
    assert bias.dtype == np.float32
    np.testing.assert_allclose(bias, [0, 0.693147, 1.974081, 3.583519], atol=5e-7)


def test_what_is_no_weight_is_not_handed_out_as_one():
    counts = Counts.from_pixels(PIXELS)
    bias = solvers.solve(counts, "logit_adjustment")
    for call in (
        bias.keras,
        lambda: export.focal_alpha(bias),
        lambda: export.log_w(bias),
        lambda: export.sample_weights(bias, [0]),
        *(lambda form=form: export.render(bias, form) for form in ("keras", "mmseg", "monai")),
    ):
        with pytest.raises(errors.OptionError, match=r"cannot be made of a bias \(logit"):
            call()


@pytest.mark.parametrize(
    ("scheme", "more", "words"),
    [
        ("inverse", {}, "CrossEntropyLoss(weight=weights"),
        ("pos_weight", {}, "BCEWithLogitsLoss(pos_weight=weights.view(-1, 1, 1))"),
        ("logit_adjustment", {}, "while training, not after"),
        ("logit_adjustment", {"post_hoc": True}, "Added to the logits afterwards"),
        ("balanced_softmax", {}, "logits + weights.view(1, -1, 1, 1)"),
        ("ldam", {}, "Subtracted from the logit of the true class"),
    ],
)
def test_torch_text_says_how_each_kind_is_used(scheme, more, words):
    solved = solvers.solve(Counts.from_pixels(PIXELS), scheme, **more)
    assert words in export.render(solved, "torch")


def test_a_mask_of_unknown_rank_is_not_squeezed():
    class Unknown:
        def __len__(self):
            raise ValueError("unknown rank")

    assert not export._is_single_channel(Unknown())
