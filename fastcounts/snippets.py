"""Text to paste: JSON, CSV, and Python code for the loss functions of each framework.

The code divides the weighted sum by the number of all pixels of a batch, ignored ones included.
That number is the same for every batch, so a cost that is equal over the data set is also equal in
the mean over the batches. The number of valid pixels is not: it differs from batch to batch.
"""

from __future__ import annotations

import builtins
import csv
import io
import json
import keyword
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from fastcounts.errors import OptionError
from fastcounts.messages import argument
from fastcounts.weights import Weights

__all__ = ["FORMATS", "check_kind", "render"]

_MAX_TABLE = 2**20
"""Most entries of a lookup table in printed code: 4 MiB of float32."""
_TAKEN = frozenset(
    {
        *("GeneralizedDiceLoss", "DataSetDice", "DiceLoss", "PixelLoss", "add_weights", "adjusted"),
        *("channel", "channels", "chances", "criterion", "dice", "grnd", "ignored", "image"),
        *("inside", "kept", "label", "label_map", "logits", "loss", "loss_decode", "loss_function"),
        *("losses", "mask", "masses", "one_hot", "overlap", "pixel_loss", "place", "sampler"),
        *("self", "shifted", "table", "target", "target_of", "tf", "torch", "total", "truth"),
        *("value", "weight", *dir(builtins)),
    }
)
"""Names that printed code uses itself."""


class _Page(NamedTuple):
    """What a text is made from; ``values`` are in channel order where the form needs channels."""

    weights: Weights
    values: list[float]
    name: str
    order: list[int] | None


def check_kind(weights: Weights, what: str) -> None:
    """Refuse values that are not weights of a loss per pixel.

    Raises
    ------
    OptionError : the kind is not weight, or the scheme is for a Dice loss.
    """
    if weights.kind != "weight":
        raise OptionError(
            f"{what} cannot be made of a {weights.kind} ({weights.scheme}): take a scheme that "
            "gives weights (fastcounts schemes lists them), or the format torch, which prints code "
            f"for the kind {weights.kind}"
        )
    if weights.scheme == "generalised_dice":
        raise OptionError(
            f"{what} cannot be made of generalised_dice: its weights belong in a Dice loss, which "
            "the formats torch and monai print; the scheme power with exponent 2 gives 1 / n**2 "
            "for a cross entropy"
        )


def _smoothing(weights: Weights) -> tuple[str, float]:
    """Return the framework whose label smoothing the weights were solved for, and its amount."""
    if weights.scheme == "label_smoothing":
        return "torch", float(weights.options.get("alpha", 0))
    amount = float(weights.options.get("label_smoothing", 0) or 0)
    return str(weights.options.get("framework", "keras")), amount


def _smoothing_of(weights: Weights, framework: str, loss: str) -> float:
    """Return the label smoothing that the printed loss needs.

    Raises
    ------
    OptionError : the weights were solved for a label smoothing that the loss does not have.
    """
    solved_for, amount = _smoothing(weights)
    if amount and solved_for != framework:
        other = "without label smoothing"
        if framework in ("keras", "torch"):
            other = f"for the label smoothing of {framework}"
        raise OptionError(
            f"these weights were solved for the label smoothing of {solved_for} ({amount:g}), "
            f"which {loss} does not have: solve equal_cost {other}, or take the format {solved_for}"
        )
    return amount


def _per_image(weights: Weights) -> bool:
    return bool(weights.options.get("per_image", False))


def _literal(value: float) -> str:
    """Return Python code for a float, infinities included."""
    return repr(value) if math.isfinite(value) else f'float("{value}")'


def _literals(values: Iterable[float]) -> str:
    return f"[{', '.join(_literal(value) for value in values)}]"


def _json(page: _Page) -> str:
    return json.dumps(page.weights.to_dict(), indent=2, allow_nan=False) + "\n"


def _csv(page: _Page) -> str:
    weights = page.weights
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["label", "name", "pixels", weights.kind])
    rows = zip(weights.labels.tolist(), weights.pixels.tolist(), weights.values, strict=True)
    for label, pixels, value in rows:
        writer.writerow([label, weights.names.get(label, ""), pixels, repr(float(value))])
    return text.getvalue()


def _python(page: _Page) -> str:
    ignored = ", ".join(str(label) for label in page.weights.ignore)
    note = (
        f"# Ignored: {ignored}. Leave such pixels out of the training data: scikit-learn makes a "
        "class of\n# every label of its targets, whatever it weighs.\n"
    )
    return _dictionary(page) + (note if ignored and page.weights.kind == "weight" else "")


def _dictionary(page: _Page) -> str:
    names = page.weights.names
    lines = [
        f"    {label}: {_literal(value)},"
        + (f"  # {_line(names[label])}" if label in names else "")
        for label, value in page.weights.as_dict().items()
    ]
    return "\n".join([f"# {page.weights.convention()}", f"{page.name} = {{", *lines, "}", ""])


def _line(name: str) -> str:
    """Remove from a name what would end a comment."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())


# ---- Keras ----


def _keras(page: _Page) -> str:
    weights = page.weights
    check_kind(weights, "a sample weight")
    smoothing = _smoothing_of(weights, "keras", "a loss of Keras")
    labels = weights.labels.tolist()
    first, last = min(0, *labels), max(255, *labels)
    if last - first >= _MAX_TABLE or (first < 0 and page.order is None):
        raise OptionError(
            f"label {first if first < 0 else last} has no place in a lookup table: fold the labels "
            "into 0..K-1"
        )
    offset = f" + {-first}" if first else ""
    return f"""{_dictionary(page)}
import tensorflow as tf

# One entry per label, {first} to {last}.
table = tf.constant(
    [{page.name}.get(label, 0.0) for label in range({first}, {last + 1})], dtype=tf.float32
)


def add_weights(image, mask):
    \"\"\"Add the weight of every pixel: 0 for ignored and other labels that are not a class.\"\"\"
    place = tf.cast(mask, tf.int64){offset}
    inside = (place >= 0) & (place < {last + 1 - first})
    return image, mask, tf.where(inside, tf.gather(table, tf.where(inside, place, 0)), 0.0)


# dataset = dataset.map(add_weights)
{_keras_loss(page, smoothing)}# model.compile(loss=loss)
"""


def _keras_loss(page: _Page, smoothing: float) -> str:
    """Print the loss: built in where its targets are the labels, else a function.

    ``ignore_class`` is not used: Keras then divides by the valid pixels of each batch.
    """
    ignored, channels = page.weights.ignore, _channels(page)
    by_image = _per_image(page.weights)
    divisor = (
        "# The weights were solved for batches of one image, dataset.batch(1), and a loss that is\n"
        "# divided by the weights of the batch."
        if by_image
        else "# Keras divides by all pixels of the batch, ignored ones included: a constant."
    )
    reduction = ', reduction="mean_with_sample_weight"' if by_image else ""
    if not (ignored or smoothing or channels):
        built_in = "tf.keras.losses.SparseCategoricalCrossentropy"
        return f"{divisor}\nloss = {built_in}(from_logits=True{reduction})\n"
    function = "pixel_loss" if by_image else "loss"
    lines = [
        "",
        "",
        f"def {function}(mask, logits):",
        '    """Cross entropy of every pixel; ignored ones take channel 0, and have weight 0."""',
        "    label = tf.cast(mask, tf.int64)",
    ]
    if channels:
        lines += [
            "    target = tf.fill(tf.shape(label), tf.constant(-1, tf.int64))",
            f"    for value, channel in {channels}.items():",
            "        target = tf.where(label == value, tf.constant(channel, tf.int64), target)",
        ]
    else:
        lines.append("    target = label")
    if ignored:
        lines += [
            f"    for value in {list(ignored)}:",
            "        target = tf.where(label == value, tf.constant(0, tf.int64), target)",
        ]
    if smoothing:
        lines += [
            "    if len(target.shape) == len(logits.shape):",
            "        target = tf.squeeze(target, -1)",
            "    truth = tf.one_hot(target, logits.shape[-1])",
            "    return tf.keras.losses.categorical_crossentropy(",
            f"        truth, logits, from_logits=True, label_smoothing={smoothing!r}",
            "    )",
        ]
    else:
        lines += [
            "    return tf.keras.losses.sparse_categorical_crossentropy(",
            "        target, logits, from_logits=True",
            "    )",
        ]
    if by_image:
        lines += [
            "",
            "",
            "class PixelLoss(tf.keras.losses.Loss):",
            "    def call(self, mask, logits):",
            "        return pixel_loss(mask, logits)",
            "",
            "",
            'loss = PixelLoss(reduction="mean_with_sample_weight")',
        ]
    return "\n".join([divisor, *lines, *([] if by_image else ["", ""]), ""])


def _channels(page: _Page) -> dict[int, int] | None:
    """Map each class label to its channel; None if the labels are the channels."""
    if page.order is None or page.order == list(range(len(page.order))):
        return None
    ignored = set(page.weights.ignore)
    return {label: place for place, label in enumerate(page.order) if label not in ignored}


# ---- PyTorch ----


class _Target(NamedTuple):
    """Code that turns a mask into the target of a torch loss."""

    definition: str
    call: str
    ignore: int | None

    @property
    def argument(self) -> str:
        return "" if self.ignore is None else f", ignore_index={self.ignore}"

    @property
    def kept(self) -> str:
        """Line that finds the pixels that are not ignored."""
        return f"    kept = target != {-100 if self.ignore is None else self.ignore}\n"


def _torch_target(page: _Page, mask: str = "mask") -> _Target:
    ignored, channels = list(page.weights.ignore), _channels(page)
    if channels is None and len(ignored) < 2:
        return _Target("", f"{mask}.long()", ignored[0] if ignored else None)
    lines = [f"ignored = {ignored}"]
    if channels is not None:
        lines.append(f"channels = {channels}  # label in the mask: channel of the network")
    lines += ["", "", "def target_of(mask):"]
    if channels is None:
        lines += [
            '    """Return the channel of every pixel; -100 for ignored ones."""',
            "    label = mask.long()",
            "    target = label.clone()",
        ]
    else:
        lines += [
            '    """Return the channel of every pixel; -100 for ignored, -1 for unknown labels."""',
            "    label = mask.long()",
            "    target = torch.full_like(label, -1)  # the loss raises an error for -1",
            "    for value, channel in channels.items():",
            "        target[label == value] = channel",
        ]
    lines += [
        "    for value in ignored:",
        "        target[label == value] = -100",
        "    return target",
        "",
        "",
        "",
    ]
    return _Target("\n".join(lines), f"target_of({mask})", -100)


def _tensor(page: _Page) -> str:
    return f"{page.name} = torch.tensor({_literals(page.values)}, dtype=torch.float32)\n"


def _torch(page: _Page) -> str:
    if page.weights.scheme == "generalised_dice":
        use = _torch_dice(page)
    else:
        use = _TORCH_USES[page.weights.kind](page)
    return f"# {page.weights.convention()}\nimport torch\n\n{_tensor(page)}{use}"


class _CrossEntropy(NamedTuple):
    """Code of a weighted cross entropy: the criterion, what it does, and the lines of its use."""

    criterion: str
    summary: str
    lines: str


def _cross_entropy(page: _Page, target: _Target) -> _CrossEntropy:
    smoothing = _smoothing_of(page.weights, "torch", "CrossEntropyLoss of torch")
    smoothed = f", label_smoothing={smoothing!r}" if smoothing else ""
    start = f"criterion = torch.nn.CrossEntropyLoss(weight={page.name}{target.argument}"
    if _per_image(page.weights):
        return _CrossEntropy(
            f"""# The weights were solved for the weighted mean of each image.
{start}, reduction="none"{smoothed})
""",
            "weighted mean of each image, then the mean over the images",
            f"""    losses = criterion(logits.float(), target).flatten(1).sum(1)
{target.kept}    masses = (criterion.weight[target * kept] * kept).flatten(1).sum(1)
    loss = (losses / masses.clamp(min=1e-30)).mean()
""",
        )
    return _CrossEntropy(
        f"""# reduction="mean" would divide by the weights of the batch. Divide by all its pixels, a
# constant; the number of pixels that are not ignored differs from batch to batch.
{start}, reduction="sum"{smoothed})
""",
        "weighted cross entropy, divided by the number of all pixels",
        "    loss = criterion(logits.float(), target) / target.numel()\n",
    )


def _torch_weight(page: _Page) -> str:
    target = _torch_target(page)
    entropy = _cross_entropy(page, target)
    return f"""{target.definition}{entropy.criterion}

def loss_function(logits, mask):
    \"\"\"Return the {entropy.summary}.\"\"\"
    target = {target.call}
{entropy.lines}    return loss
"""


def _torch_one_hot(page: _Page, target: _Target) -> str:
    size = len(page.values)
    return f"""{target.kept}    truth = torch.nn.functional.one_hot(target * kept, {size})
    truth = truth.movedim(-1, 1)
"""


def _torch_pos_weight(page: _Page) -> str:
    target = _torch_target(page)
    size = len(page.values)
    return f"""{target.definition}\
# One sigmoid per channel: logits of shape (batch, {size}, height, width).
criterion = torch.nn.BCEWithLogitsLoss(pos_weight={page.name}.view(-1, 1, 1), reduction="none")


def loss_function(logits, mask):
    \"\"\"Return the mean over all channels and pixels; ignored pixels add 0.\"\"\"
    target = {target.call}
{_torch_one_hot(page, target)}\
    return (criterion(logits.float(), truth.float()) * kept.unsqueeze(1)).mean()
"""


def _torch_bias(page: _Page) -> str:
    if page.weights.options.get("post_hoc"):
        return f"""

# Added to the logits afterwards, of a network that was trained without weights.
def adjusted(logits):
    \"\"\"Return the logits to predict from.\"\"\"
    return logits + {page.name}.view(1, -1, 1, 1).to(logits.device)
"""
    target = _torch_target(page)
    return f"""{target.definition}

# Added to the logits while training, not after: predict from the logits without it.
def loss_function(logits, mask):
    \"\"\"Return the cross entropy of the shifted logits, divided by the number of all pixels.\"\"\"
    target = {target.call}
    shifted = logits.float() + {page.name}.view(1, -1, 1, 1).to(logits.device)
    total = torch.nn.functional.cross_entropy(
        shifted, target{target.argument}, reduction="sum"
    )
    return total / target.numel()
"""


def _torch_margin(page: _Page) -> str:
    target = _torch_target(page)
    return f"""{target.definition}

# Subtracted from the logit of the true class while training, not after. The paper multiplies the
# shifted logits by 30 because its logits are cosines; ordinary logits need no factor.
def loss_function(logits, mask):
    \"\"\"Return the cross entropy of the shifted logits, divided by the number of all pixels.\"\"\"
    target = {target.call}
{_torch_one_hot(page, target)}\
    shifted = logits.float() - truth * {page.name}.view(1, -1, 1, 1).to(logits.device)
    total = torch.nn.functional.cross_entropy(
        shifted, target{target.argument}, reduction="sum"
    )
    return total / target.numel()
"""


def _torch_item(page: _Page) -> str:
    # the values of rare_class are chances; those of the other two count how often an epoch shows
    # each image
    drawn = len(page.values)
    if page.weights.scheme in ("repeat_factor", "class_uniform"):
        drawn = max(1, round(sum(page.values)))
    return f"""# One number per image, in the order in which they were counted.
sampler = torch.utils.data.WeightedRandomSampler({page.name}, num_samples={drawn})
"""


def _torch_dice(page: _Page) -> str:
    target = _torch_target(page)
    return f"""{target.definition}{page.name} = {page.name} / {page.name}.max()  # the scale cancels


def loss_function(logits, mask):
    \"\"\"Return the generalised Dice loss of the batch; ignored pixels are left out.\"\"\"
    target = {target.call}
{_torch_one_hot(page, target)}    kept = kept.unsqueeze(1)
    chances = (logits.float().softmax(1) * kept).movedim(1, 0).flatten(1)
    truth = (truth * kept).movedim(1, 0).flatten(1)
    weight = {page.name}.to(logits.device)
    overlap = (weight * (chances * truth).sum(1)).sum()
    total = (weight * (chances + truth).sum(1)).sum()
    return 1 - 2 * overlap / total.clamp(min=1e-30)
"""


_TORCH_USES: dict[str, Callable[[_Page], str]] = {
    "weight": _torch_weight,
    "pos_weight": _torch_pos_weight,
    "bias": _torch_bias,
    "margin": _torch_margin,
    "item": _torch_item,
}


# ---- MONAI ----


def _monai(page: _Page) -> str:
    if page.weights.scheme == "generalised_dice":
        return _monai_dice(page)
    check_kind(page.weights, "the weight of a MONAI loss")
    target = _torch_target(page, "mask[:, 0]")
    entropy = _cross_entropy(page, target)
    return f"""# {page.weights.convention()}
import torch
from monai.losses import DiceLoss
from monai.networks.utils import one_hot

{_tensor(page)}\
# DiceCELoss(weight=...) would multiply its Dice term by the weights as well, and it has no
# ignored label.
{target.definition}{entropy.criterion}dice = DiceLoss()


def loss_function(logits, mask):
    \"\"\"Return the Dice loss plus the {entropy.summary}.

    The mask has shape (batch, 1, height, width), or one axis more; ignored pixels are left out.
    \"\"\"
    target = {target.call}
{entropy.lines}{_monai_one_hot(page, target)}\
    return loss + dice(logits.float().softmax(1) * kept, truth)
"""


def _monai_one_hot(page: _Page, target: _Target) -> str:
    return f"""{target.kept}    kept = kept.unsqueeze(1)
    truth = one_hot(target.unsqueeze(1) * kept, {len(page.values)}) * kept
"""


def _monai_dice(page: _Page) -> str:
    target = _torch_target(page, "mask[:, 0]")
    return f"""# {page.weights.convention()}
import torch
from monai.losses import GeneralizedDiceLoss
from monai.networks.utils import one_hot

{_tensor(page)}{page.name} = {page.name} / {page.name}.max()  # the scale cancels


class DataSetDice(GeneralizedDiceLoss):
    \"\"\"Generalised Dice with the weights of the data set, not of each batch.\"\"\"

    def w_func(self, grnd):
        return {page.name}.to(grnd).expand_as(grnd).clone()


{target.definition}# the default, 1e-5, would outweigh classes of small weight
dice = DataSetDice(batch=True, smooth_nr=0.0, smooth_dr=1e-30)


def loss_function(logits, mask):
    \"\"\"Return the generalised Dice loss; the mask has shape (batch, 1, height, width).\"\"\"
    target = {target.call}
{_monai_one_hot(page, target)}    return dice(logits.float().softmax(1) * kept, truth)
"""


# ---- mmsegmentation ----


def _mmseg(page: _Page) -> str:
    weights = page.weights
    if weights.kind == "pos_weight":
        raise OptionError(
            "class_weight cannot be made of a pos_weight: under use_sigmoid=True mmsegmentation "
            "multiplies the columns of the image by class_weight, not the channels; take the "
            "format torch"
        )
    check_kind(weights, "class_weight")
    _smoothing_of(weights, "mmseg", "CrossEntropyLoss of mmsegmentation")
    by_image = _per_image(weights)
    if by_image and weights.ignore:
        raise OptionError(
            f"per_image weights need reduction='mean', under which mmsegmentation raises an "
            f"IndexError for an ignored label such as {weights.ignore[0]}: take equal_cost without "
            "per_image, or the format torch"
        )
    if by_image:
        note = """\
# The weights were solved for batches of one image (batch_size=1 of train_dataloader) and a loss
# that is divided by the weights of the batch. Labels that are no class raise an IndexError."""
    else:
        note = """\
# "none": the loss is the mean over all pixels of the batch, ignored ones included. "mean"
# would divide by the weights of the batch, and raises an IndexError for any ignored label."""
    return f"""# {weights.convention()}
{_mmseg_labels(page)}{note}
loss_decode = dict(
    type="CrossEntropyLoss",
    use_sigmoid=False,
    loss_weight=1.0,
    reduction="{"mean" if by_image else "none"}",
    class_weight={_literals(page.values)},
)
"""


def _mmseg_labels(page: _Page) -> str:
    """Print which labels the masks must contain, unless mmsegmentation assumes them."""
    ignored, channels = list(page.weights.ignore), _channels(page)
    if channels is None and ignored in ([], [255]):
        return ""
    if channels is None and len(ignored) == 1:
        return f"# decode_head=dict(ignore_index={ignored[0]}, ...): its default is 255.\n"
    mapped = (channels or {}) | dict.fromkeys(ignored, 255)
    return f"""# Change these labels when the masks are loaded (label_map of a dataset).
label_map = {mapped}
"""


FORMATS: dict[str, Callable[[_Page], str]] = {
    "json": _json,
    "csv": _csv,
    "python": _python,
    "keras": _keras,
    "torch": _torch,
    "mmseg": _mmseg,
    "monai": _monai,
}
"""Functions that print weights, by the name of the format."""
_BY_CHANNEL = ("torch", "mmseg", "monai")


def render(
    weights: Weights,
    form: str,
    *,
    num_classes: int | None = None,
    order: Sequence[int] | None = None,
    name: str = "weights",
) -> str:
    """Return weights as text to paste.

    The code of the formats keras, torch, mmseg and monai is a whole loss: it leaves ignored labels
    out, and its reduction is the one for which the costs in ``weights.diagnostics`` hold.

    Parameters
    ----------
    weights : what to print.
    form : a key of :data:`FORMATS`.
    num_classes, order : for the formats that are indexed by channel; see
        :meth:`fastcounts.weights.Weights.dense`. With ``order``, the code maps the labels of the
        mask to channels.
    name : of the variable.

    Returns
    -------
    Text that ends with a newline.

    Raises
    ------
    OptionError : an unknown format; a format that has no use for these values; labels that need
        ``num_classes`` or ``order``; a name that Python does not allow or that the code uses.

    Examples
    --------
    >>> import fastcounts as fc
    >>> weights = fc.solve(fc.Counts.from_pixels({0: 3, 1: 1}), "inverse")
    >>> print(render(weights, "python"), end="")
    # inverse(), weight, normalize=as published, cap=none, absent=raise
    weights = {
        0: 1.0,
        1: 3.0,
    }
    """
    if form not in FORMATS:
        raise OptionError(f"format {form!r}: give one of {', '.join(FORMATS)}")
    if not name.isidentifier() or keyword.iskeyword(name):
        raise OptionError(f"name={name!r}: give a name that a Python variable can have")
    if name in _TAKEN:
        raise OptionError(f"name={name!r}: the printed code uses this name; give another one")
    if order is not None and form not in (*_BY_CHANNEL, "keras"):
        raise OptionError(
            f"{argument('order')} is for the formats that are indexed by channel "
            f"({', '.join(_BY_CHANNEL)}, keras); {form} names the label of every value"
        )
    values: list[float] = []
    if form in _BY_CHANNEL or (form == "keras" and order is not None):
        values = weights.dense(num_classes, order=order).tolist()
    return FORMATS[form](_Page(weights, values, name, None if order is None else list(order)))
