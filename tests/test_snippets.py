"""Printed code, as far as it can be checked without the frameworks; the rest is in frameworks/."""

from __future__ import annotations

import ast
import json
import subprocess
import sys

import numpy as np
import pytest

import fastcounts as fc
from fastcounts import errors, snippets
from fastcounts.weights import Weights

IMAGES = np.array([[60, 30, 10, 0, 20], [80, 20, 0, 0, 20], [10, 15, 10, 10, 75]])
MASKS = np.stack([np.repeat([0, 1, 2, 3, 255], image) for image in IMAGES]).astype(np.uint8)
OPTIONS = {"target_prior": {"prior": [0.4, 0.3, 0.2, 0.1]}, "rare_class": {"min_pixels": 3}}
CODE = ("python", "keras", "torch", "mmseg", "monai")


@pytest.fixture(scope="module")
def counts():
    return fc.count(MASKS, ignore=255, items=0, keep_items=True)


def allowed(weights):
    """Formats of code that have a use for these weights."""
    smoothed = weights.scheme == "label_smoothing" or weights.options.get("label_smoothing")
    if weights.scheme == "generalised_dice":
        return {"python", "torch", "monai"}
    if weights.kind != "weight":
        return {"python", "torch"}
    if weights.options.get("per_image"):
        return {"python", "keras", "torch", "monai"}
    if smoothed and weights.options.get("framework") == "keras":
        return {"python", "keras"}
    return {"python", "torch", "monai"} if smoothed else set(CODE)


@pytest.mark.parametrize(
    ("scheme", "options"),
    [
        *((scheme.name, OPTIONS.get(scheme.name, {})) for scheme in fc.schemes()),
        ("equal_cost", {"per_image": True}),
        ("equal_cost", {"label_smoothing": 0.1, "framework": "keras"}),
        ("equal_cost", {"label_smoothing": 0.1, "framework": "torch"}),
        ("logit_adjustment", {"post_hoc": True}),
    ],
)
def test_every_scheme_in_every_format_is_code_or_refused(counts, scheme, options):
    weights = fc.solve(counts, scheme, **options)
    for form in CODE:
        if form not in allowed(weights):
            with pytest.raises(errors.OptionError, match=r"formats? (torch|keras)"):
                fc.export.render(weights, form)
            continue
        text = fc.export.render(weights, form)
        ast.parse(text)
        assert text.startswith(f"# {weights.convention()}\n")
        assert text.endswith("\n")


@pytest.mark.parametrize(
    ("scheme", "options", "form", "words"),
    [
        ("label_smoothing", {}, "keras", r"smoothing of torch \(0\.1\), which a loss of Keras"),
        (
            "label_smoothing",
            {},
            "mmseg",
            "equal_cost without label smoothing, or take the format torch",
        ),
        (
            "equal_cost",
            {"label_smoothing": 0.3},
            "torch",
            r"of keras \(0\.3\).*equal_cost for the label smoothing of torch",
        ),
        ("equal_cost", {"per_image": True}, "mmseg", "ignored label such as 255"),
        ("generalised_dice", {}, "keras", "belong in a Dice loss, which the formats torch and"),
        ("generalised_dice", {}, "mmseg", "power with exponent 2"),
        ("pos_weight", {}, "mmseg", "multiplies the columns of the image"),
        ("pos_weight", {}, "keras", "format torch, which prints code for the kind pos_weight"),
        ("repeat_factor", {}, "keras", "format torch, which prints code for the kind item"),
    ],
)
def test_refusals_say_what_to_take_instead(counts, scheme, options, form, words):
    with pytest.raises(errors.OptionError, match=words):
        fc.export.render(fc.solve(counts, scheme, **options), form)


def test_the_python_objects_refuse_weights_of_a_dice_loss(counts):
    weights = fc.solve(counts, "generalised_dice")
    for call in (
        weights.keras,
        lambda: fc.export.focal_alpha(weights),
        lambda: fc.export.log_w(weights),
        lambda: fc.export.sample_weights(weights, [0]),
    ):
        with pytest.raises(errors.OptionError, match="belong in a Dice loss"):
            call()


def test_json_names_the_ignored_labels(counts):
    weights = fc.solve(counts, "inverse")
    assert json.loads(fc.export.render(weights, "json"))["ignore"] == [255]
    two = fc.Counts.from_pixels({0: 3, 1: 1}, ignored={255: 2, -1: 0})
    assert fc.solve(two, "inverse").to_dict()["ignore"] == [-1, 255]


def test_weights_of_other_ignored_labels_are_not_equal():
    one, other = (
        fc.solve(fc.Counts.from_pixels({0: 3, 1: 1}, ignored={label: 2}), "inverse")
        for label in (254, 255)
    )
    assert one != other


def test_the_python_text_says_what_to_do_with_ignored_pixels(counts):
    text = fc.export.render(fc.solve(counts, "inverse"), "python")
    assert "# Ignored: 255. Leave such pixels out" in text
    space = {}
    exec(text, space)
    assert list(space["weights"]) == [0, 1, 2, 3]


@pytest.mark.parametrize("form", ["python", "torch"])
def test_infinite_values_are_python(form):
    values, labels = np.array([-np.inf, 0.5]), np.array([0, 1])
    bias = Weights(values, labels, np.array([0, 10]), kind="bias", scheme="logit_adjustment")
    text = fc.export.render(bias, form)
    assert 'float("-inf")' in text
    ast.parse(text)


@pytest.mark.parametrize("name", ["torch", "tf", "mask", "target", "loss", "range", "table"])
def test_the_name_of_the_variable_is_not_one_that_the_code_uses(counts, name):
    with pytest.raises(errors.OptionError, match="the printed code uses this name"):
        fc.export.render(fc.solve(counts, "inverse"), "torch", name=name)


@pytest.mark.parametrize("form", ["keras", "torch", "mmseg", "monai"])
def test_the_code_uses_no_name_that_may_be_given(counts, form):
    for scheme in ("equal_cost", "generalised_dice", "pos_weight", "ldam", "logit_adjustment"):
        for options in ({}, {"per_image": True}) if scheme == "equal_cost" else ({},):
            try:
                weights = fc.solve(counts, scheme, **options)
                text = fc.export.render(weights, form, order=[3, 2, 1, 0])
            except errors.OptionError:
                continue
            stored = {
                node.id
                for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            }
            tree = ast.walk(ast.parse(text))
            stored |= {node.arg for node in tree if isinstance(node, ast.arg)}
            assert stored - {"weights"} <= snippets._TAKEN


def test_an_order_maps_the_labels_of_the_mask_to_channels():
    wide = fc.Counts.from_pixels({7: 30, 26: 10}, ignored={-1: 5})
    weights = fc.solve(wide, "equal_cost")
    for form in ("keras", "torch", "monai"):
        assert "{26: 0, 7: 1}" in fc.export.render(weights, form, order=[26, 7])
    assert "label_map = {26: 0, 7: 1, -1: 255}" in fc.export.render(weights, "mmseg", order=[26, 7])
    with pytest.raises(errors.OptionError, match="must name each of the labels"):
        fc.export.render(weights, "keras", order=[26])


def test_keras_text_takes_ignored_labels_that_no_table_holds():
    for label in (-1, -9999, 2**40):
        weights = fc.solve(fc.Counts.from_pixels({0: 3, 1: 1}, ignored={label: 1}), "inverse")
        text = fc.export.render(weights, "keras")
        assert f"for value in [{label}]:" in text
        assert "range(0, 256)" in text


@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.float32, np.uint64])
def test_the_keras_map_gives_ignored_labels_no_weight_wherever_they_are(dtype):
    numbers = fc.Counts.from_pixels({0: 3, 1: 1}, ignored={-1: 2, 300: 1})
    mapped = fc.solve(numbers, "inverse").keras(other=0.5)
    mask = np.array([[0, 1, 300, 301, -1 if np.dtype(dtype).kind != "u" else 300]]).astype(dtype)
    assert mapped.weigh(mask).tolist() == [[1.0, 3.0, 0.0, 0.5, 0.0]]


def test_modules_of_the_documentation_are_attributes_of_the_package():
    code = (
        "import sys, fastcounts as fc\n"
        "assert not {'fastcounts.export', 'fastcounts.solvers'} & set(sys.modules)\n"
        "fc.export.lookup, fc.diagnostics.expected_share, fc.solvers.bootstrap\n"
        "assert {'export', 'diagnostics', 'solvers'} <= set(dir(fc))\n"
        "try: fc.nothing\n"
        "except AttributeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "has no attribute 'nothing'" in done.stdout
