"""The real losses of PyTorch agree with what the weights and their diagnostics say."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest

from fastcounts import export
from fastcounts.counts import Counts
from fastcounts.items import ItemKey, ItemTable
from fastcounts.ledger import Ledger
from fastcounts.solvers import solve

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

pytestmark = pytest.mark.filterwarnings("default")

PIXELS = [180, 90, 25, 5]
IMAGES = [[60, 30, 10, 0], [80, 20, 0, 0], [40, 40, 15, 5]]
VOID = 20


@pytest.fixture
def counts():
    return Counts.from_pixels(dict(enumerate(PIXELS)), ignored={255: VOID})


@pytest.fixture
def mask():
    labels = np.repeat([0, 1, 2, 3, 255], [*PIXELS, VOID])
    return torch.from_numpy(np.random.default_rng(0).permutation(labels).reshape(2, 16, 10))


def always(answer, mask, eps=0.01, classes=4):
    """Logits of a network that answers one class everywhere."""
    chances = torch.full((classes,), eps / (classes - 1))
    chances[answer] = 1 - eps
    logits = chances.log().view(1, classes, *[1] * (mask.ndim - 1))
    return logits.expand(mask.shape[0], classes, *mask.shape[1:])


@pytest.mark.parametrize("scheme", ["equal_cost", "inverse", "balanced"])
def test_constant_answers_cost_the_same_under_both_reductions(counts, mask, scheme):
    weights = solve(counts, scheme)
    table = weights.diagnostics["constant_predictors"][0]
    mean = torch.nn.CrossEntropyLoss(weight=weights.torch(), ignore_index=255)
    summed = torch.nn.CrossEntropyLoss(weight=weights.torch(), ignore_index=255, reduction="sum")
    for answer in range(4):
        logits = always(answer, mask)
        by_weights = float(mean(logits, mask))
        by_pixels = float(summed(logits, mask)) / int((mask != 255).sum())
        assert by_weights == pytest.approx(4.280349439955526, rel=1e-6)
        assert by_weights == pytest.approx(table["by_weights"][answer], rel=1e-6)
        assert by_pixels == pytest.approx(table["by_pixels"][answer], rel=1e-6)
        assert by_pixels == pytest.approx(table["by_pixels"][0], rel=1e-6)


def test_without_weights_they_do_not(counts, mask):
    table = solve(counts, "uniform").diagnostics["constant_predictors"][0]
    loss = torch.nn.CrossEntropyLoss(ignore_index=255)
    for answer in range(4):
        found = float(loss(always(answer, mask), mask))
        assert found == pytest.approx(table["before"][answer], rel=1e-6)
    assert np.ptp(table["before"]) > 3


def test_sparse_and_categorical_cross_entropy_are_one_number(counts, mask):
    weight = solve(counts, "balanced").torch()
    valid = mask.flatten()[mask.flatten() != 255]
    logits = torch.randn(len(valid), 4, generator=torch.Generator().manual_seed(1))
    sparse = torch.nn.functional.cross_entropy(logits, valid, weight, reduction="none")
    one_hot = torch.nn.functional.one_hot(valid, 4).float()
    dense = torch.nn.functional.cross_entropy(logits, one_hot, weight, reduction="none")
    torch.testing.assert_close(sparse, dense)


def test_one_hot_targets_are_divided_by_pixels_and_labels_by_weights(counts):
    weight = solve(counts, "inverse").torch()
    labels = torch.from_numpy(np.repeat(range(4), PIXELS))
    logits = always(0, labels)
    one_hot = torch.nn.functional.one_hot(labels, 4).float()
    loss = torch.nn.CrossEntropyLoss(weight=weight)
    assert float(loss(logits, labels)) == pytest.approx(4.280349, abs=2e-6)
    assert float(loss(logits, one_hot)) == pytest.approx(10.272839, abs=5e-6)


def test_label_smoothing_of_torch_needs_its_own_weights(counts):
    labels = torch.from_numpy(np.repeat(range(4), PIXELS))

    def costs(scheme):
        weight = solve(Counts.from_pixels(dict(enumerate(PIXELS))), scheme).torch()
        loss = torch.nn.CrossEntropyLoss(weight=weight, label_smoothing=0.1, reduction="sum")
        return [float(loss(always(answer, labels), labels)) / 300 for answer in range(4)]

    np.testing.assert_allclose(costs("label_smoothing"), [5.143266] * 4, rtol=1e-6)
    broken = [6.537950, 6.478640, 6.170230, 4.462110]
    np.testing.assert_allclose(costs("equal_cost"), broken, rtol=1e-6)


def test_the_mean_of_batches_of_one_image():
    images = np.array(IMAGES)
    rows, columns = np.nonzero(images)
    held = images > 0
    inside = held.T @ images.sum(axis=1)
    counts = Counts(
        labels=np.arange(4),
        pixels=images.sum(axis=0),
        items=3,
        presence=held.sum(axis=0),
        presence_pixels=inside,
        presence_pixels_total=inside,
        ledger=Ledger(total=300, counted=300),
        item_table=ItemTable.of(
            [ItemKey("", place) for place in range(3)],
            np.append(0, np.cumsum(held.sum(axis=1))),
            columns,
            images[rows, columns],
        ),
    )

    def costs(weights):
        loss = torch.nn.CrossEntropyLoss(weight=weights.torch())
        batches = [torch.from_numpy(np.repeat(range(4), row))[None] for row in IMAGES]
        return [
            np.mean([float(loss(always(answer, batch), batch)) for batch in batches])
            for answer in range(4)
        ]

    sinkhorn = solve(counts, "equal_cost", per_image=True)
    np.testing.assert_allclose(costs(sinkhorn), [4.280349] * 4, rtol=1e-6)
    unequal = [3.659342, 4.105909, 4.489678, 4.866469]
    np.testing.assert_allclose(costs(solve(counts, "equal_cost")), unequal, rtol=1e-6)


def test_a_channel_that_is_always_on_costs_what_it_costs_always_off(counts):
    pos_weight = solve(counts, "pos_weight").torch()
    labels = torch.from_numpy(np.repeat(range(4), PIXELS))
    truth = torch.nn.functional.one_hot(labels, 4).float()
    loss = torch.nn.BCEWithLogitsLoss(pos_weight=pos_weight, reduction="none")
    on = loss(torch.full_like(truth, 4.6), truth).mean(dim=0)
    off = loss(torch.full_like(truth, -4.6), truth).mean(dim=0)
    torch.testing.assert_close(on, off)


def test_gaps_and_orders(counts):
    weights = solve(counts, "inverse", absent="zero")
    wide = weights.torch(num_classes=6)
    assert wide.dtype == torch.float32
    assert wide.tolist() == pytest.approx([1, 2, 7.2, 36, 0, 0])
    assert weights.torch(order=[3, 2, 1, 0]).tolist() == pytest.approx([36, 7.2, 2, 1])
    assert list(torch.nn.CrossEntropyLoss(weight=wide).state_dict()) == ["weight"]


@pytest.mark.parametrize(
    ("scheme", "options"),
    [("equal_cost", {}), ("enet", {"cap": 5}), ("median_frequency", {"presence": False})],
)
def test_pasted_text_is_the_exported_object(counts, mask, scheme, options):
    weights = solve(counts, scheme, **options)
    space = {}
    exec(export.render(weights, "torch"), space)
    torch.testing.assert_close(space["weights"], weights.torch())
    found = float(space["loss_function"](always(1, mask), mask))
    expected = weights.diagnostics["constant_predictors"][0]["by_pixels"][1]
    assert found == pytest.approx(expected * 300 / 320, rel=1e-6)


@pytest.mark.parametrize("scheme", ["pos_weight", "logit_adjustment", "ldam"])
def test_pasted_text_of_other_kinds_runs(counts, mask, scheme):
    space = {}
    exec(export.render(solve(counts, scheme), "torch"), space)
    found = space["loss_function"](always(1, mask), mask)
    assert found.shape == ()
    assert torch.isfinite(found)


def test_the_map_takes_tensors(counts):
    mask = torch.tensor([[0, 3, 255]], dtype=torch.uint8)
    _, _, weight = solve(counts, "inverse").keras()(None, mask)
    assert weight.dtype == torch.float32
    assert weight.tolist() == [[1.0, 36.0, 0.0]]


def test_values_beyond_the_table_weigh_what_others_weigh(counts):
    mask = torch.tensor([[0, 3, 256, -1, 255]])
    weight = solve(counts, "inverse").keras(other=0.5).weigh(mask)
    assert weight.tolist() == [[1.0, 36.0, 0.5, 0.5, 0.0]]


def test_an_ignored_class_0_keeps_its_channel():
    counts = Counts.from_pixels({1: 180, 2: 90}, ignored={0: 30})
    weights = solve(counts, "equal_cost", num_classes=3)
    mask = torch.from_numpy(np.repeat([0, 1, 2], [30, 180, 90]))[None]
    space = {}
    exec(export.render(weights, "torch"), space)
    assert space["weights"].tolist() == [0.0, 0.75, 1.5]
    costs = [
        float(space["loss_function"](always(answer, mask, classes=3), mask)) for answer in (1, 2)
    ]
    assert costs[0] == pytest.approx(costs[1], rel=1e-6)
    expected = np.asarray(weights.diagnostics["constant_predictors"][0]["by_pixels"][1:])
    assert costs == pytest.approx(expected * 270 / 300)


# ---- training ----

SHARES = 0.8 ** np.arange(30)
SHARES = np.concatenate([[0.6], 0.4 * SHARES / SHARES.sum()])
"""The question's shape: 31 classes, one of them 60 % of all pixels."""


def scene(cells=8, pixels=12_000):
    """Pixels with a colour (a cell) and a class that the colour tells something about."""
    draw = np.random.default_rng(7)
    lean = draw.dirichlet(np.full(31, 0.5), cells)
    chances = 0.5 * SHARES + 0.5 * lean * SHARES / (lean * SHARES).sum(axis=1, keepdims=True)
    colours = draw.integers(0, cells, pixels)
    labels = np.array(
        [draw.choice(31, p=chances[colour] / chances[colour].sum()) for colour in colours]
    )
    return torch.from_numpy(colours), torch.from_numpy(labels)


def trained(features, labels, weight=None):
    """Logits of a linear model that has been trained until nothing changes."""
    classes = int(labels.max()) + 1
    model = torch.nn.Linear(features.shape[1], classes, bias=False).double()
    torch.nn.init.zeros_(model.weight)
    weight = torch.ones(classes) if weight is None else weight
    loss = torch.nn.CrossEntropyLoss(weight=weight.double(), reduction="sum")
    optimizer = torch.optim.LBFGS(
        model.parameters(),
        max_iter=400,
        tolerance_grad=1e-9,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        # a trace of decay keeps logits of what never occurs finite
        found = loss(model(features), labels) / len(labels) + 1e-9 * model.weight.square().sum()
        found.backward()
        return found

    optimizer.step(closure)
    return model(features).detach()


@pytest.fixture(scope="module")
def training():
    colours, labels = scene()
    pixels = np.bincount(labels.numpy(), minlength=31)
    weights = solve(Counts.from_pixels(dict(enumerate(pixels.tolist()))), "equal_cost")
    return colours, labels, weights


def test_training_with_weights_is_adding_their_logarithm_afterwards(training):
    colours, labels, weights = training
    cells = torch.nn.functional.one_hot(colours).double()
    weighted = trained(cells, labels, weights.torch()).softmax(dim=1)
    plain = trained(cells, labels)
    after = (plain + torch.from_numpy(export.log_w(weights))).softmax(dim=1)
    assert float((weighted - after).abs().max()) < 2e-3
    chosen = after.gather(1, weighted.argmax(dim=1, keepdim=True))[:, 0]
    assert float((after.max(dim=1).values - chosen).max()) < 4e-3
    assert float((weighted - plain.softmax(dim=1)).abs().max()) > 0.2


def test_a_model_that_is_too_small_for_the_truth_does_not_agree():
    # the class in the middle of three positions is another one than a straight line can say
    counts = np.array([[900, 90, 10], [200, 50, 750], [600, 390, 10]])
    places, labels = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices((3, 3)))
    position = torch.from_numpy(np.stack([np.ones(len(places)), places], axis=1))
    labels = torch.from_numpy(labels)
    pixels = dict(enumerate(counts.sum(axis=0).tolist()))
    weights = solve(Counts.from_pixels(pixels), "equal_cost")
    weighted = trained(position, labels, weights.torch()).softmax(dim=1)
    after = (trained(position, labels) + torch.from_numpy(export.log_w(weights))).softmax(dim=1)
    assert float((weighted - after).abs().max()) > 1e-2


def test_importing_the_exports_does_not_import_torch():
    code = "import sys, fastcounts.export; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
