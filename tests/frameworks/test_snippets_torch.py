"""Printed code for PyTorch, MONAI and mmsegmentation, executed in the real libraries.

Ignored pixels go with a class here, so that a loss that divides by the valid pixels of each batch
gives other costs than one that divides by a constant.
"""

from __future__ import annotations

import importlib.util
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastcounts as fc
from fastcounts import errors

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

pytestmark = pytest.mark.filterwarnings("ignore")

IMAGES = [[60, 30, 10, 0, 20], [80, 20, 0, 0, 20], [10, 15, 10, 10, 75]]
"""Pixels of classes 0 to 3 and of label 255 in three images of 10 by 12 pixels."""
MASKS = np.stack(
    [
        np.random.default_rng(place).permutation(np.repeat([0, 1, 2, 3, 255], image))
        for place, image in enumerate(IMAGES)
    ]
).reshape(3, 10, 12)
VALID = float((MASKS != 255).mean())
OPTIONS = {
    "target_prior": {"prior": [0.4, 0.3, 0.2, 0.1]},
    "rare_class": {"min_pixels": 3},
}
SCHEMES = [(scheme.name, OPTIONS.get(scheme.name, {})) for scheme in fc.schemes()]
MORE = [
    ("inverse", {"cap": 3}),
    ("equal_cost", {"label_smoothing": 0.1, "framework": "torch"}),
    ("equal_cost", {"per_image": True}),
    ("equal_cost", {"costs": (1 - np.eye(4)).tolist()}),
    ("logit_adjustment", {"post_hoc": True}),
]


@pytest.fixture(scope="module")
def counts():
    return fc.count(MASKS.astype(np.uint8), ignore=255, items=0, keep_items=True)


def named(case):
    return "-".join([case[0], *case[1]])


def always(answer, mask, eps=0.01, classes=4):
    """Logits of a network that always answers one class."""
    chances = torch.full((classes,), eps / (classes - 1))
    chances[answer] = 1 - eps
    shape = (mask.shape[0], classes, *mask.shape[1:])
    return chances.log().view(1, classes, *[1] * (mask.ndim - 1)).expand(shape)


def run(text):
    space = {}
    exec(text, space)
    return space


def batches(size=1, dtype=np.int64):
    masks = torch.from_numpy(MASKS.astype(dtype))
    return [masks[start : start + size] for start in range(0, len(masks), size)]


def promised(weights):
    """Costs that the diagnostics promise, times the part of the pixels that is not ignored."""
    found = weights.diagnostics
    if weights.options.get("per_image"):
        return np.asarray(found["stated_costs"]["after"])
    smoothed = weights.scheme == "label_smoothing" or weights.options.get("label_smoothing")
    if smoothed:
        return np.asarray(found["stated_costs"]["after"]) * VALID
    return np.asarray(found["constant_predictors"][0]["by_pixels"]) * VALID


def test_the_ignored_pixels_go_with_a_class(counts):
    per_image = (MASKS == 255).mean(axis=(1, 2))
    assert np.ptp(per_image) > 0.4
    assert counts.pixels.tolist() == [150, 65, 20, 10]


# ---- PyTorch ----

WEIGHTS = [case for case in [*SCHEMES, *MORE] if case[0] != "generalised_dice"]
OF_KIND = {scheme.name: scheme.kind for scheme in fc.schemes()}
WEIGHTS = [case for case in WEIGHTS if OF_KIND[case[0]] == "weight"]


@pytest.mark.parametrize("solved", WEIGHTS, ids=named)
def test_torch_costs_are_the_promised_ones_in_the_mean_over_batches(counts, solved):
    scheme, options = solved
    weights = fc.solve(counts, scheme, **options)
    loss = run(fc.export.render(weights, "torch"))["loss_function"]
    expected = promised(weights)
    assert len(expected) == 4
    for answer in range(4):
        each = [float(loss(always(answer, mask), mask)) for mask in batches()]
        assert np.mean(each) == pytest.approx(expected[answer], rel=2e-6)
        whole = float(loss(always(answer, *batches(3)), *batches(3)))
        assert whole == pytest.approx(expected[answer], rel=2e-6)


def test_torch_costs_are_equal_where_the_weights_were_solved_for_that(counts):
    for options in ({}, {"per_image": True}, {"label_smoothing": 0.1, "framework": "torch"}):
        expected = promised(fc.solve(counts, "equal_cost", **options))
        assert np.ptp(expected) < 1e-6 * expected.max()
    expected = promised(fc.solve(counts, "label_smoothing", alpha=0.2))
    assert np.ptp(expected) < 1e-6 * expected.max()


@pytest.mark.parametrize("solved", [*SCHEMES, *MORE], ids=named)
@pytest.mark.parametrize("form", ["torch", "monai"])
def test_a_batch_of_ignored_pixels_has_a_finite_loss_and_gradient(counts, form, solved):
    scheme, options = solved
    try:
        space = run(fc.export.render(fc.solve(counts, scheme, **options), form))
    except errors.OptionError:
        assert form == "monai"
        return
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")
    if "loss_function" not in space:
        assert OF_KIND[scheme] == "item" or options == {"post_hoc": True}
        return
    for ignored in (slice(None), slice(0, 1)):
        mask = torch.from_numpy(MASKS[:2].astype(np.int64)).clone()
        mask[ignored] = 255
        logits = torch.randn(2, 4, 10, 12, requires_grad=True)
        loss = space["loss_function"](logits, mask[:, None] if form == "monai" else mask)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()
        assert not logits.grad[ignored].any()


def test_two_images_of_which_one_is_mostly_ignored_cost_the_same():
    masks = np.full((2, 10, 10), 255, dtype=np.uint8)
    masks[0], masks[1, 0] = 0, 1
    weights = fc.solve(fc.count(masks, ignore=255), "equal_cost")
    space = run(fc.export.render(weights, "torch"))
    images = [torch.from_numpy(mask)[None] for mask in masks]
    costs = {"constant": [], "valid": []}
    for answer in range(2):
        logits = [always(answer, image, classes=2) for image in images]
        pairs = list(zip(logits, images, strict=True))
        costs["constant"].append(np.mean([float(space["loss_function"](*pair)) for pair in pairs]))
        sums = [float(space["criterion"](one, mask.long())) for one, mask in pairs]
        valid = [int((mask != 255).sum()) for mask in images]
        costs["valid"].append(np.mean(np.divide(sums, valid)))
    np.testing.assert_allclose(costs["constant"], [1.2692, 1.2692], atol=5e-5)
    np.testing.assert_allclose(costs["valid"], [12.667, 1.2941], atol=5e-4)


@pytest.mark.parametrize("form", ["torch", "monai"])
def test_label_smoothing_is_part_of_the_printed_loss(counts, form):
    for scheme, options in (
        ("label_smoothing", {"alpha": 0.2}),
        ("equal_cost", {"label_smoothing": 0.2, "framework": "torch"}),
    ):
        text = fc.export.render(fc.solve(counts, scheme, **options), form)
        assert "label_smoothing=0.2" in text
    assert (
        "label_smoothing="
        not in fc.export.render(fc.solve(counts, "label_smoothing", alpha=0), form).partition("\n")[
            2
        ]
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_logits_of_any_dtype(counts, dtype):
    weights = fc.solve(counts, "equal_cost")
    loss = run(fc.export.render(weights, "torch"))["loss_function"]
    mask = torch.zeros((4, 256, 256), dtype=torch.uint8)
    logits = always(1, mask).to(getattr(torch, dtype))
    expected = float(loss(always(1, mask), mask))
    assert float(loss(logits, mask)) == pytest.approx(expected, rel=1e-2)


def test_the_weight_has_the_dtype_of_the_logits(counts):
    weight = fc.solve(counts, "equal_cost").torch()
    mask = torch.from_numpy(np.where(MASKS == 255, 0, MASKS))
    logits = always(1, mask).bfloat16()
    entropy = torch.nn.functional.cross_entropy
    with pytest.raises(RuntimeError, match="expected scalar type"):
        entropy(logits, mask, weight)
    assert torch.isfinite(entropy(logits, mask, weight.to(logits.dtype)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert entropy(logits, mask, weight).dtype == torch.float32


@pytest.mark.parametrize(
    ("labels", "ignored", "order"),
    [
        ([0, 1, 2, 3], [254, 255], None),
        ([0, 1, 2, 3], [-1], None),
        ([0, 1, 2, 3], [], None),
        ([7, 26, 33, 40], [-1, 255], [40, 7, 33, 26]),
        ([7, 26, 33, 40], [0], [0, 40, 7, 33, 26]),
        ([0, 1, 2, 3], [255], [3, 2, 1, 0]),
    ],
)
@pytest.mark.parametrize("form", ["torch", "monai"])
def test_labels_that_are_not_the_channels(form, labels, ignored, order):
    numbers = {label: 40 - 9 * place for place, label in enumerate(labels)}
    counts = fc.Counts.from_pixels(numbers, ignored=dict.fromkeys(ignored, 10))
    weights = fc.solve(counts, "equal_cost")
    try:
        space = run(fc.export.render(weights, form, order=order))
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")
    pixels = numbers | dict.fromkeys(ignored, 10)
    mask = torch.from_numpy(np.repeat(list(pixels), list(pixels.values())))[None]
    kept = mask.clone()
    size = len(order or labels)
    table = np.asarray(weights.diagnostics["constant_predictors"][0]["by_pixels"])
    for place, label in enumerate(labels):
        channel = (order or labels).index(label)
        logits = always(channel, mask, classes=size)
        if size > 4:  # the channel of an ignored class gets no probability
            logits = logits.clone()
            logits[:, 0] = -30
            logits[:, 1:] = always(channel - 1, mask)
        found = space["loss_function"](logits, mask[:, None] if form == "monai" else mask)
        if form == "monai":
            found = found - without_weights(space, logits, mask, order or labels, ignored)
        share = sum(numbers.values()) / mask.numel()
        assert float(found) == pytest.approx(table[place] * share, rel=1e-5)
    assert torch.equal(mask, kept), "the mask itself is not changed"
    if order is not None:
        stranger = mask.clone()
        stranger[0, 0] = 99
        with pytest.raises((IndexError, RuntimeError)):
            space["loss_function"](logits, stranger[:, None] if form == "monai" else stranger)


def without_weights(space, logits, mask, channels, ignored):
    """Dice loss of MONAI over the pixels that are not ignored, cut out beforehand."""
    kept = ~torch.isin(mask, torch.tensor([*ignored, -(10**6)]))
    places = torch.tensor([channels.index(label) for label in mask[kept].tolist()])
    truth = torch.nn.functional.one_hot(places, len(channels)).T[None].float()
    chances = logits.softmax(1)[0][:, kept[0]][None]
    return float(space["DiceLoss"]()(chances, truth))


@pytest.mark.parametrize("scheme", ["logit_adjustment", "balanced_softmax", "ldam"])
def test_shifted_logits_are_not_scaled(counts, scheme):
    weights = fc.solve(counts, scheme)
    loss = run(fc.export.render(weights, "torch"))["loss_function"]
    mask = torch.from_numpy(MASKS.astype(np.uint8))
    logits = torch.randn(3, 4, 10, 12, generator=torch.Generator().manual_seed(0))
    shifted = logits.double().numpy().transpose(0, 2, 3, 1)[MASKS != 255]
    truth = MASKS[MASKS != 255]
    if scheme == "ldam":
        shifted[np.arange(len(truth)), truth] -= weights.values[truth]
    else:
        shifted += weights.values
    normal = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(truth)), truth]
    assert float(loss(logits, mask)) == pytest.approx(normal.sum() / mask.numel(), rel=1e-5)


def test_a_bias_of_afterwards_is_added_to_the_logits(counts):
    weights = fc.solve(counts, "logit_adjustment", post_hoc=True)
    adjusted = run(fc.export.render(weights, "torch"))["adjusted"]
    logits = torch.randn(2, 4, 5, 5)
    expected = logits.movedim(1, -1) + torch.from_numpy(weights.float32())
    torch.testing.assert_close(adjusted(logits).movedim(1, -1), expected)


def test_a_channel_that_is_always_on_costs_what_it_costs_always_off(counts):
    loss = run(fc.export.render(fc.solve(counts, "pos_weight"), "torch"))["loss_function"]
    for channel in range(4):
        costs = []
        for sign in (4.6, -4.6):
            logits = torch.full((1, 4, 10, 12), -30.0)
            logits[:, channel] = sign
            base = torch.full((1, 4, 10, 12), -30.0)
            base[:, channel] = 0.0
            each = [float(loss(logits, mask)) - float(loss(base, mask)) for mask in batches()]
            costs.append(np.mean(each))
        assert costs[0] == pytest.approx(costs[1], rel=1e-4)


def dice_costs(weights, pixels):
    """Generalised Dice loss of every hard constant answer over the whole data set."""
    weighted = weights * pixels
    return 1 - 2 * weighted / (weighted.sum() + weights * pixels.sum())


@pytest.mark.parametrize("form", ["torch", "monai"])
def test_generalised_dice_is_a_dice_loss(counts, form):
    weights = fc.solve(counts, "generalised_dice")
    try:
        loss = run(fc.export.render(weights, form))["loss_function"]
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")
    mask = torch.from_numpy(MASKS.astype(np.int64))
    expected = dice_costs(weights.values, counts.pixels)
    for answer in range(4):
        logits = torch.zeros(3, 4, 10, 12)
        logits[:, answer] = 60
        found = float(loss(logits, mask[:, None] if form == "monai" else mask))
        assert found == pytest.approx(expected[answer], rel=1e-4)


@pytest.mark.parametrize("form", ["torch", "monai"])
def test_generalised_dice_without_its_rare_classes_still_has_a_gradient(form):
    rare = fc.Counts.from_pixels({0: 10**9, 1: 10**8, 2: 3})
    try:
        loss = run(fc.export.render(fc.solve(rare, "generalised_dice"), form))["loss_function"]
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")
    mask = torch.from_numpy(np.repeat([0, 1], [60, 40])).view(1, 10, 10)
    logits = torch.zeros(1, 3, 10, 10)
    logits[:, 2] = -60  # the rare class is rightly never answered
    found = float(loss(logits, mask[:, None] if form == "monai" else mask))
    shares = np.array([1.0, 100.0])  # 1 / n**2, relative to class 0
    pixels = np.array([60, 40])
    overlap, total = (shares * pixels / 2).sum(), (shares * (pixels + 50)).sum()
    assert found == pytest.approx(1 - 2 * overlap / total, rel=1e-4)


def test_images_are_drawn_as_often_as_the_scheme_says(counts):
    for scheme, options, epoch in (
        ("repeat_factor", {"threshold": 0.9}, None),
        ("rare_class", {"min_pixels": 3, "temperature": 0.1}, 3),
        ("class_uniform", {"epoch": 500}, 500),
    ):
        weights = fc.solve(counts, scheme, **options)
        sampler = run(fc.export.render(weights, "torch"))["sampler"]
        assert isinstance(sampler, torch.utils.data.WeightedRandomSampler)
        assert sampler.num_samples == (epoch or round(weights.values.sum()))
        torch.manual_seed(0)
        loader = torch.utils.data.DataLoader(range(3), batch_size=10, sampler=sampler)
        sampler.num_samples = 20_000
        drawn = np.bincount(np.concatenate([batch.numpy() for batch in loader]), minlength=3)
        np.testing.assert_allclose(drawn / 20_000, weights.values / weights.values.sum(), atol=0.02)


def test_the_name_of_the_variable_is_the_one_that_was_given(counts):
    for scheme in ("equal_cost", "pos_weight", "logit_adjustment", "ldam", "generalised_dice"):
        space = run(fc.export.render(fc.solve(counts, scheme), "torch", name="class_weights"))
        assert torch.isfinite(space["loss_function"](torch.zeros(1, 4, 10, 12), batches()[0]))
        assert "weights" not in space


# ---- MONAI ----


@pytest.mark.parametrize("solved", WEIGHTS, ids=named)
def test_monai_weighs_the_cross_entropy_and_not_the_dice_term(counts, solved):
    pytest.importorskip("monai.losses", reason="MONAI is not installed")
    scheme, options = solved
    weights = fc.solve(counts, scheme, **options)
    space = run(fc.export.render(weights, "monai"))
    expected = promised(weights)
    mask = torch.from_numpy(MASKS)
    for answer in range(4):
        costs = []
        for one in mask:
            logits = always(answer, one[None])
            dice = without_weights(
                space, logits.flatten(2), one.flatten()[None], [0, 1, 2, 3], [255]
            )
            costs.append(float(space["loss_function"](logits, one[None, None])) - dice)
        assert np.mean(costs) == pytest.approx(expected[answer], rel=1e-5)


def test_monai_takes_volumes_and_masks_of_floats(counts):
    pytest.importorskip("monai.losses", reason="MONAI is not installed")
    loss = run(fc.export.render(fc.solve(counts, "equal_cost"), "monai"))["loss_function"]
    mask = torch.from_numpy(MASKS).view(1, 1, 3, 10, 12)
    logits = torch.randn(1, 4, 3, 10, 12)
    assert torch.isfinite(loss(logits, mask.float()))
    assert float(loss(logits, mask)) == float(loss(logits, mask.float()))


def test_what_monai_does_that_the_text_warns_of(counts):
    losses = pytest.importorskip("monai.losses", reason="MONAI is not installed")
    mask = torch.from_numpy(np.where(MASKS == 255, 0, MASKS))[:, None]
    logits = torch.randn(3, 4, 10, 12)
    options = {"softmax": True, "to_onehot_y": True, "lambda_ce": 0.0}
    plain = float(losses.DiceCELoss(**options)(logits, mask))
    weighted = float(losses.DiceCELoss(weight=torch.full((4,), 42.0), **options)(logits, mask))
    assert weighted == pytest.approx(42 * plain, rel=1e-5)
    with pytest.raises(RuntimeError):
        losses.DiceCELoss(**options)(logits, torch.from_numpy(MASKS)[:, None])


# ---- mmsegmentation ----


@pytest.fixture(scope="module")
def mmseg():
    """Losses of mmsegmentation, and what its runner makes of them; no mmcv is needed for these."""
    for name in ("mmseg", "mmengine"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    if "mmseg" not in sys.modules:
        # the package itself needs compiled operators of mmcv
        home = Path(importlib.util.find_spec("mmseg").origin).parent
        for name in ("mmseg", "mmseg.models", "mmseg.models.losses"):
            module = types.ModuleType(name)
            module.__path__ = [str(home.joinpath(*name.split(".")[1:]))]
            sys.modules[name] = module
    from mmengine.model import BaseModel
    from mmseg.models.losses import cross_entropy_loss

    class Model(BaseModel):
        def forward(self):
            raise NotImplementedError

    def make(config):
        assert config["type"] == "CrossEntropyLoss"
        settings = {key: value for key, value in config.items() if key != "type"}
        loss = cross_entropy_loss.CrossEntropyLoss(**settings)

        def run_loss(logits, mask, ignore_index=255):
            found = loss(logits, mask, ignore_index=ignore_index)
            return Model().parse_losses({"loss_ce": found})[0]

        return run_loss

    return make


MMSEG = [case for case in WEIGHTS if not ({"per_image", "label_smoothing"} & {case[0], *case[1]})]


@pytest.mark.parametrize("solved", MMSEG, ids=named)
def test_mmseg_costs_are_the_promised_ones_in_the_mean_over_batches(mmseg, counts, solved):
    scheme, options = solved
    weights = fc.solve(counts, scheme, **options)
    loss = mmseg(run(fc.export.render(weights, "mmseg"))["loss_decode"])
    expected = promised(weights)
    for answer in range(4):
        each = [float(loss(always(answer, mask), mask)) for mask in batches()]
        assert np.mean(each) == pytest.approx(expected[answer], rel=2e-6)


def test_mmseg_takes_a_batch_of_ignored_pixels(mmseg, counts):
    loss = mmseg(run(fc.export.render(fc.solve(counts, "equal_cost"), "mmseg"))["loss_decode"])
    logits = torch.randn(1, 4, 10, 12, requires_grad=True)
    found = loss(logits, torch.full((1, 10, 12), 255))
    found.backward()
    assert float(found) == 0
    assert not logits.grad.any()


def test_mmseg_takes_per_image_weights_where_nothing_is_ignored(mmseg, counts):
    images = np.array([[60, 30, 10, 0], [80, 20, 0, 0], [40, 40, 15, 5]])
    masks = np.stack([np.repeat(range(4), image) for image in images]).astype(np.uint8)
    even = fc.count(masks.reshape(3, 10, 10), items=0, keep_items=True)
    weights = fc.solve(even, "equal_cost", per_image=True)
    loss = mmseg(run(fc.export.render(weights, "mmseg"))["loss_decode"])
    batch = [torch.from_numpy(mask.astype(np.int64)).view(1, 10, 10) for mask in masks]
    for answer in range(4):
        found = np.mean([float(loss(always(answer, mask), mask)) for mask in batch])
        assert found == pytest.approx(weights.diagnostics["stated_costs"]["after"][0], rel=2e-6)
    with pytest.raises(errors.OptionError, match=r"IndexError for an ignored label such as 255"):
        fc.export.render(fc.solve(counts, "equal_cost", per_image=True), "mmseg")


def test_what_mmseg_does_that_the_text_warns_of(mmseg, counts):
    config = run(fc.export.render(fc.solve(counts, "equal_cost"), "mmseg"))["loss_decode"]
    mask = torch.from_numpy(MASKS.astype(np.int64))
    with pytest.raises(IndexError):
        mmseg(config | {"reduction": "mean"})(always(0, mask), mask)
    # under use_sigmoid, class_weight meets the columns of the image
    square = torch.zeros((1, 6, 4), dtype=torch.int64)
    sigmoid = mmseg(config | {"use_sigmoid": True, "class_weight": [1.0, 1.0, 1.0, 1000.0]})
    logits = torch.zeros((1, 4, 6, 4), requires_grad=True)
    sigmoid(logits, square).backward()
    assert (logits.grad[0, 0, :, 3].abs() > 100 * logits.grad[0, 0, :, 0].abs()).all()


def test_mmseg_says_which_labels_the_masks_must_contain(mmseg):
    few = fc.Counts.from_pixels({0: 30, 1: 10}, ignored={254: 5})
    text = fc.export.render(fc.solve(few, "equal_cost"), "mmseg")
    assert "ignore_index=254" in text
    mask = torch.from_numpy(np.repeat([0, 1, 254], [30, 10, 5]))[None]
    loss = mmseg(run(text)["loss_decode"])
    costs = [
        float(loss(always(place, mask, classes=2), mask, ignore_index=254)) for place in (0, 1)
    ]
    assert costs[0] == pytest.approx(costs[1], rel=1e-6)
    wide = fc.Counts.from_pixels({7: 30, 26: 10}, ignored={0: 5, 3: 5})
    text = fc.export.render(fc.solve(wide, "equal_cost"), "mmseg", order=[26, 7])
    assert run(text)["label_map"] == {26: 0, 7: 1, 0: 255, 3: 255}


def test_a_masked_class_gets_no_probability_and_no_gradient():
    few = fc.Counts.from_pixels({0: 30, 1: 10, 2: 0}, ignored={255: 4})
    for options in ({}, {"post_hoc": True}):
        weights = fc.solve(few, "logit_adjustment", absent="mask", **options)
        space = run(fc.export.render(weights, "torch"))
        logits = torch.randn(1, 3, 4, 11, requires_grad=True)
        mask = torch.from_numpy(np.repeat([0, 1, 255], [30, 10, 4])).view(1, 4, 11)
        if options:
            assert not space["adjusted"](logits).softmax(1)[:, 2].any()
            continue
        loss = space["loss_function"](logits, mask)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()
        assert not logits.grad[:, 2].any()
