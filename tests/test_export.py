"""Exports: what they hold, and that pasted text runs; and the page on weights.

``python tests/test_export.py`` writes what is generated in ``docs/weights.md`` anew.
"""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fastcounts import errors, export, solvers
from fastcounts.counts import Counts
from fastcounts.items import ItemKey, ItemTable
from fastcounts.ledger import Ledger

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
    assert "ignored = [254, 255]" in both
    assert "target[label == value] = -100" in both
    none = export.render(solvers.solve(Counts.from_pixels(PIXELS), "inverse"), "torch")
    assert "ignore_index" not in none
    assert "/ target.numel()" in none


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
        ("pos_weight", {}, "BCEWithLogitsLoss(pos_weight=weights.view(-1, 1, 1), reduction"),
        ("logit_adjustment", {}, "while training, not after"),
        ("logit_adjustment", {"post_hoc": True}, "Added to the logits afterwards"),
        ("balanced_softmax", {}, "logits.float() + weights.view(1, -1, 1, 1)"),
        ("ldam", {}, "Subtracted from the logit of the true class"),
    ],
)
def test_torch_text_says_how_each_kind_is_used(scheme, more, words):
    solved = solvers.solve(Counts.from_pixels(PIXELS), scheme, **more)
    assert words in export.render(solved, "torch")


def test_torch_text_of_images_draws_them():
    images = Counts(
        labels=np.arange(2),
        pixels=np.array([7, 3]),
        items=2,
        presence=np.array([2, 1]),
        presence_pixels=np.array([10, 5]),
        presence_pixels_total=np.array([10, 5]),
        ledger=Ledger(total=10, counted=10),
        item_table=ItemTable.of(
            [ItemKey("", 0), ItemKey("", 1)],
            np.array([0, 2, 3]),
            np.array([0, 1, 0]),
            np.array([2, 3, 5]),
        ),
    )
    text = export.render(solvers.solve(images, "repeat_factor", threshold=1.0), "torch")
    assert "WeightedRandomSampler(weights, num_samples=2)" in text
    assert "[1.4142135623730951, 1.0]" in text


def test_a_mask_of_unknown_rank_is_not_squeezed():
    class Unknown:
        def __len__(self):
            raise ValueError("unknown rank")

    assert not export._is_single_channel(Unknown())


def test_an_ignored_label_weighs_nothing_whatever_others_weigh(weights):
    table = weights.lookup(256, other=1.0)
    assert (table[255], table[254]) == (0, 1)


@pytest.mark.parametrize("size", [4, 256])
def test_what_has_no_place_in_the_table_weighs_what_others_weigh(weights, size):
    for other in (0.0, 0.5):
        mask = np.array([[-1, 3], [size, 70_000]])
        found = weights.keras(size, other=other).weigh(mask)
        assert found.tolist() == [[other, 36.0], [0.0 if size == 255 else other, other]]
    huge = np.array([[2**64 - 1, 3]], dtype=np.uint64)
    assert weights.keras(size).weigh(huge).tolist() == [[0.0, 36.0]]


def test_masks_of_floats_are_labels_or_refused(weights):
    assert weights.keras().weigh(np.array([[0.0, 3.0]])).tolist() == [[1.0, 36.0]]
    for wrong in (0.5, np.nan, np.inf):
        with pytest.raises(errors.OptionError, match="labels are whole numbers"):
            weights.keras().weigh(np.array([[0.0, wrong]]))
    assert weights.keras().weigh(np.array([[True, False]])).tolist() == [[2.0, 1.0]]


def test_names_do_not_become_code():
    counts = Counts.from_pixels({0: 3, 1: 1}, classes={0: "a\nboom()", 1: "b\r\x85\u2028c"})
    solved = solvers.solve(counts, "inverse")
    text = export.render(solved, "python")
    space = {}
    exec(text, space)
    assert space["weights"] == {0: 1.0, 1: 3.0}
    assert "# a boom()" in text
    assert "# b c" in text


@pytest.mark.parametrize("name", ["my weights", "class", "1st", ""])
def test_a_variable_has_a_name_that_it_can_have(weights, name):
    with pytest.raises(errors.OptionError, match="a Python variable can have"):
        export.render(weights, "python", name=name)


def test_keras_text_has_a_place_for_every_label():
    wide = solvers.solve(Counts.from_pixels({0: 3, 300: 1}, ignored={4095: 1}), "inverse")
    text = export.render(wide, "keras")
    assert "range(0, 301)" in text
    assert "for value in [4095]:" in text
    for labels in ({0: 3, -1: 1}, {0: 3, 2**40: 1}):
        solved = solvers.solve(Counts.from_pixels(labels), "inverse")
        with pytest.raises(errors.OptionError, match="has no place in a lookup table"):
            export.render(solved, "keras")


def test_keras_text_knows_the_ignored_labels(weights):
    assert "for value in [255]:" in export.render(weights, "keras")
    both = Counts.from_pixels(PIXELS, ignored={254: 1, 255: 20})
    text = export.render(solvers.solve(both, "inverse"), "keras")
    assert "for value in [254, 255]:" in text
    assert "ignore_class" not in text
    none = export.render(solvers.solve(Counts.from_pixels(PIXELS), "inverse"), "keras")
    assert "loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)\n" in none


# ---- docs/weights.md ----

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, FIGURE = DOCS / "weights.md", DOCS / "implied-priors.svg"
SHOWN = {
    "no weights": ("uniform", {}),
    "square root": ("power", {"normalize": "pixel_mean"}),
    "cap of 10": ("inverse", {"cap": 10, "normalize": "pixel_mean"}),
    "ENet": ("enet", {}),
    "1 / (p + 0.02)": ("inverse_offset", {"eps": 0.02}),
    "max / count": ("inverse", {}),
    "equal cost": ("equal_cost", {}),
    "1 / n²": ("generalised_dice", {"normalize": "pixel_mean"}),
}
DRAWN = {
    "no weights": "#000000",
    "square root": "#0072b2",
    "cap of 10": "#d55e00",
    "ENet": "#009e73",
    "equal cost": "#cc79a7",
}


def question_data():
    """Thirty-one classes, one of them 60 % of all pixels."""
    shares = 0.8 ** np.arange(30)
    pixels = np.round(1e8 * np.concatenate([[0.6], 0.4 * shares / shares.sum()]))
    return Counts.from_pixels(dict(enumerate(pixels.astype(int).tolist())))


def table_of_schemes():
    counts = question_data()
    lines = [
        "| | weights | ratio | pixel mean | effective pixels | constant answers cost | evenness |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (scheme, options) in SHOWN.items():
        weights = solvers.solve(counts, scheme, **options)
        found = weights.diagnostics
        costs = found["constant_predictors"][0]["by_weights"]
        low, high = weights.values.min(), weights.values.max()
        lines.append(
            f"| {name} | {low:.3g} to {high:.5g} | {found['ratio']:.3g} "
            f"| {found['pixel_mean']:.3g} | {found['effective_share']:.1%} "
            f"| {costs.min():.2f} to {costs.max():.2f} | {found['entropy_ratio']['after']:.2f} |"
        )
    return "\n".join(lines)


def section(scheme):
    shapes = {"pos_weight": "P_c", "bias": "b_c", "margin": "\\Delta_c", "item": "r_I"}
    lines = [f"### `{scheme.name}`", "", scheme.summary, ""]
    lines += [f"$${shapes.get(scheme.kind, 'w_c')} = {scheme.tex}$$", ""]
    lines += [f"- Kind: {scheme.kind}.", f"- Formula: `{scheme.formula}`."]
    if scheme.published:
        lines.append(f"- Scale as published: {scheme.published} 1.")
    needs = {True: "the table of items (`keep_items`)"}.get(scheme.items)
    needs = needs or ("presence (`items=`)" if scheme.presence else "")
    lines += [f"- Needs: {needs}."] if needs else []
    lines += [f"- Option `{o.name}={o.default!r}`: {o.meaning}." for o in scheme.options]
    lines += [f"- A class without pixels: {scheme.absent}.", f"- Source: {scheme.source}.", ""]
    return "\n".join(lines)


def figure():
    """Implied prior of every class, largest class first, on a logarithmic axis."""
    counts = question_data()
    width, height, left, top = 720, 400, 64, 24
    right, bottom = width - 150, height - 48

    def x(rank):
        return left + (right - left) * rank / 30

    def y(prior):
        return top + (bottom - top) * (0 - np.log10(prior)) / 4.2

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="13" role="img">',
        "<title>Implied prior of each of 31 classes under five schemes</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for power in range(5):
        at = y(10.0**-power)
        out.append(f'<path d="M{left} {at:.1f}H{right}" stroke="#dddddd"/>')
        out.append(
            f'<text x="{left - 8}" y="{at + 4:.1f}" text-anchor="end">{10.0**-power:g}</text>'
        )
    out += [
        f'<text x="{x(rank):.1f}" y="{bottom + 18}" text-anchor="middle">{rank}</text>'
        for rank in range(0, 31, 5)
    ]
    out.append(f'<text x="{left}" y="{height - 8}">class, by number of pixels</text>')
    out.append(f'<text x="{left}" y="{top - 8}">share of the class in the loss</text>')
    ends = []
    for name, colour in DRAWN.items():
        scheme, options = SHOWN[name]
        prior = solvers.solve(counts, scheme, **options).diagnostics["implied_prior"]
        points = " ".join(f"{x(rank):.1f},{y(share):.1f}" for rank, share in enumerate(prior))
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        ends.append((y(prior[-1]), name, colour))
    last = 0.0
    for at, name, colour in sorted(ends):
        last = max(at, last + 16)
        out.append(f'<text x="{right + 8}" y="{last + 4:.1f}" fill="{colour}">{name}</text>')
    return "\n".join([*out, "</svg>", ""])


def generated(text):
    """Put the page's generated parts in their places."""
    parts = {
        "table": table_of_schemes(),
        "schemes": "\n".join(section(scheme) for scheme in solvers.schemes()).rstrip("\n"),
    }
    for name, part in parts.items():
        pattern = rf"(<!-- begin: {name} -->\n).*?(<!-- end: {name} -->)"
        text = re.sub(pattern, lambda m, p=part: f"{m[1]}{p}\n{m[2]}", text, flags=re.DOTALL)
    return text


def test_the_page_is_generated_from_the_register():
    text = PAGE.read_text(encoding="utf-8")
    assert text == generated(text), "run: python tests/test_export.py"
    assert text.count("### `") == len(solvers.schemes())


def test_the_figure_is_that_of_the_weights():
    assert FIGURE.read_text(encoding="utf-8") == figure(), "run: python tests/test_export.py"


@pytest.mark.filterwarnings("ignore")
def test_the_examples_of_the_page_run(capsys):
    space = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        try:
            exec(block, space)
        except ModuleNotFoundError as error:
            if error.name not in ("tensorflow", "torch"):
                raise
    assert "{0: 0.4166" in capsys.readouterr().out


if __name__ == "__main__":
    PAGE.write_text(generated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    FIGURE.write_text(figure(), encoding="utf-8")
