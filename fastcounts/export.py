"""Weights in the formats of other people: tensors, lookup tables, text to paste.

No library is imported before it is needed: torch, pandas and TensorFlow load on the first call.
"""

from __future__ import annotations

import csv
import io
import json
import keyword
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastcounts.errors import MissingExtra, OptionError
from fastcounts.weights import Weights, logit_bias, single_precision

if TYPE_CHECKING:
    import pandas as pandas_library  # noqa: ICN001
    import torch as torch_library

__all__ = [
    "FORMATS",
    "KerasMap",
    "focal_alpha",
    "frame",
    "keras",
    "log_w",
    "lookup",
    "render",
    "sample_weights",
    "torch",
]


def lookup(weights: Weights, size: int = 256, *, other: float = 0.0) -> npt.NDArray[np.float32]:
    """Table from pixel value to weight, safe for ignored labels.

    ``table[mask]`` is the weight of every pixel. A network's own gather fails, or on a GPU silently
    gives 0, for a label such as 255 that is no class: in this table it has an entry.

    Parameters
    ----------
    weights : of any labels between 0 and ``size - 1``.
    size : entries; 256 for masks of 8 bits.
    other : weight of values that are neither a class nor ignored; ignored ones weigh 0.

    Returns
    -------
    (size,) float32.

    Raises
    ------
    OptionError : a label that has no place in the table.

    Examples
    --------
    >>> import fastcounts as fc
    >>> counts = fc.Counts.from_pixels({0: 3, 1: 1}, ignored={255: 7})
    >>> table = lookup(fc.solve(counts, "inverse"))
    >>> table.shape, table[[0, 1, 255]].tolist()
    ((256,), [1.0, 3.0, 0.0])
    """
    labels = weights.labels.tolist()
    if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
        raise OptionError(f"size={size!r}: give a whole number, 1 or more")
    outside = [label for label in labels if not 0 <= label < size]
    if outside:
        raise OptionError(
            f"label {outside[0]} has no place in a table for 0..{size - 1}: give a larger size, "
            "or fold the labels into 0..K-1"
        )
    table = np.full(int(size), other, dtype=np.float32)
    table[[label for label in weights.ignore if 0 <= label < size]] = 0
    table[labels] = single_precision(weights.values)
    return table


def torch(
    weights: Weights, num_classes: int | None = None, *, order: Sequence[int] | None = None
) -> torch_library.Tensor:
    """Float32 tensor for ``torch.nn.CrossEntropyLoss(weight=...)``, and for MONAI.

    The loss takes no other dtype. Its ``reduction="mean"`` divides by the weights of the pixels of
    the batch: use ``"sum"`` over the number of pixels where equal cost is to hold in every batch.

    Parameters
    ----------
    weights : values of any kind; those of images are in the order of the images, for
        ``torch.utils.data.WeightedRandomSampler``.
    num_classes, order : see :meth:`fastcounts.weights.Weights.dense`.

    Returns
    -------
    (num_classes,) torch.float32 on the CPU.

    Raises
    ------
    MissingExtra : torch is not installed.
    OptionError : labels that are not 0..K-1; see :meth:`~fastcounts.weights.Weights.dense`.
    """
    try:
        import torch as library
    except ImportError as error:
        raise MissingExtra("a torch tensor needs PyTorch", "frameworks") from error
    return library.from_numpy(weights.float32(num_classes, order=order))


def focal_alpha(
    weights: Weights, num_classes: int | None = None, *, order: Sequence[int] | None = None
) -> list[float]:
    """List for the ``alpha`` of ``keras.losses.CategoricalFocalCrossentropy``.

    The loss multiplies by it and is not divided by it again: keep the mean over the pixels at 1.

    Parameters
    ----------
    weights : of kind weight.
    num_classes, order : see :meth:`fastcounts.weights.Weights.dense`.

    Examples
    --------
    >>> import fastcounts as fc
    >>> focal_alpha(fc.solve(fc.Counts.from_pixels({0: 3, 1: 1}), "inverse"))
    [1.0, 3.0]
    """
    _only_weights(weights, "the alpha of a focal loss")
    return [float(value) for value in weights.dense(num_classes, order=order)]


def log_w(
    weights: Weights, num_classes: int | None = None, *, order: Sequence[int] | None = None
) -> npt.NDArray[np.float32]:
    """``ln w``, to add to the logits of a model that was trained without weights.

    With unlimited data that is the model that the weights would have trained. Minus infinity for a
    class of weight 0, which is then never answered.

    Parameters
    ----------
    weights : of kind weight.
    num_classes, order : see :meth:`fastcounts.weights.Weights.dense`.

    Returns
    -------
    (num_classes,) float32.

    Examples
    --------
    >>> import fastcounts as fc
    >>> log_w(fc.solve(fc.Counts.from_pixels({0: 180, 1: 90}), "inverse")).round(4).tolist()
    [0.0, 0.6930999755859375]
    """
    _only_weights(weights, "ln w")
    return single_precision(logit_bias(weights.dense(num_classes, order=order)))


def sample_weights(weights: Weights, labels: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Weight of every sample, for ``fit(sample_weight=)`` of scikit-learn, XGBoost and LightGBM.

    Parameters
    ----------
    weights : of kind weight.
    labels : (n,) label of every sample, or an array of any shape. Ignored labels weigh 0.

    Returns
    -------
    float64 in the shape of ``labels``.

    Raises
    ------
    OptionError : a label that is neither a class nor ignored.

    Examples
    --------
    >>> import fastcounts as fc
    >>> weights = fc.solve(fc.Counts.from_pixels({0: 3, 7: 1}, ignored={255: 9}), "inverse")
    >>> sample_weights(weights, [0, 7, 255, 0]).tolist()
    [1.0, 3.0, 0.0, 1.0]
    """
    _only_weights(weights, "a sample weight")
    given = np.asarray(labels)
    known = weights.as_dict() | dict.fromkeys(weights.ignore, 0.0)
    found, places = np.unique(given, return_inverse=True)
    strange = [label for label in found.tolist() if label not in known]
    if strange:
        raise OptionError(
            f"label {strange[0]!r} has no weight: it is neither one of the {len(weights)} classes "
            "nor ignored; count the data that you train on"
        )
    table = np.array([known[label] for label in found.tolist()], dtype=np.float64)
    return np.asarray(table[places].reshape(given.shape))


def frame(weights: Weights) -> pandas_library.DataFrame:
    """Table with a row a class: label, name, pixels and value.

    Parameters
    ----------
    weights : of any kind.

    Returns
    -------
    pandas.DataFrame : write it with ``to_parquet``, ``to_csv``, ``to_markdown``.

    Raises
    ------
    MissingExtra : pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtra("a table needs pandas", "report") from error
    labels = weights.labels.tolist()
    return pd.DataFrame(
        {
            "label": weights.labels,
            "name": [weights.names.get(label, "") for label in labels],
            "pixels": weights.pixels,
            weights.kind: weights.values,
        }
    )


def _only_weights(weights: Weights, what: str) -> None:
    if weights.kind != "weight":
        raise OptionError(
            f"{what} cannot be made of a {weights.kind} ({weights.scheme}): take a scheme that "
            "gives weights; fastcounts schemes lists them"
        )


class KerasMap:
    """Turns (image, mask) into (image, mask, weight of every pixel).

    For ``dataset.map(...)`` of tf.data, and for arrays and torch tensors. Keras takes
    ``class_weight=`` for one label an image only; the weight of every pixel is what it calls
    ``sample_weight``.

    Parameters
    ----------
    table : (size,) float32, weight of every pixel value.
    other : weight of values that have no place in the table.
    """

    def __init__(self, table: npt.NDArray[np.float32], other: float = 0.0) -> None:
        self.table = table
        self._wide = np.append(table, np.float32(other))  # the last place is that of all others

    def __call__(self, image: Any, mask: Any) -> tuple[Any, Any, Any]:
        """Image and mask as they are, and the weight of every pixel."""
        return image, mask, self.weigh(mask)

    def weigh(self, mask: Any) -> Any:
        """Weight of every pixel, in the shape of the mask, without a last axis of length 1."""
        squeezed = mask[..., 0] if _is_single_channel(mask.shape) else mask
        if isinstance(mask, np.ndarray):
            return self._weigh_array(squeezed)
        size = len(self.table)
        if type(mask).__module__.startswith("torch"):
            import torch as library

            labels = squeezed.long()
            places = library.where((labels >= 0) & (labels < size), labels, size)
            return library.from_numpy(self._wide).to(mask.device)[places]
        try:
            import tensorflow as tf
        except ImportError as error:
            raise MissingExtra("a mask that is no array needs TensorFlow", "frameworks") from error
        labels = tf.cast(squeezed, tf.int64)
        inside = (labels >= 0) & (labels < size)
        return tf.gather(self._wide, tf.where(inside, labels, tf.constant(size, tf.int64)))

    def _weigh_array(self, mask: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        size = len(self.table)
        labels = mask
        if mask.dtype.kind not in "iub":
            labels = np.zeros(mask.shape, dtype=np.int64)
            np.copyto(labels, mask, casting="unsafe", where=np.isfinite(mask))
            if (labels != mask).any():
                wrong = mask[labels != mask][0]
                raise OptionError(f"the mask holds {wrong}: labels are whole numbers; round it")
        places = labels.astype(np.intp)  # a label of 2**63 or more becomes a negative one
        return self._wide[np.where((places >= 0) & (places < size), places, size)]


def _is_single_channel(shape: Any) -> bool:
    """Whether a mask has a last axis of length 1 after two or more others."""
    try:
        return len(shape) > 2 and shape[-1] == 1
    except ValueError:  # TensorFlow does not know the rank
        return False


def keras(weights: Weights, size: int = 256, *, other: float = 0.0) -> KerasMap:
    """Map function that gives Keras the weight of every pixel.

    Parameters
    ----------
    weights, size, other : see :func:`lookup`; the weights are of kind weight.

    Returns
    -------
    KerasMap : for ``dataset.map(...)``; the loss then divides by the number of pixels.

    Examples
    --------
    >>> import numpy as np, fastcounts as fc
    >>> weights = fc.solve(fc.Counts.from_pixels({0: 3, 1: 1}), "inverse")
    >>> _, _, weight = keras(weights)(None, np.array([[0, 1, 255]], dtype=np.uint8))
    >>> weight.tolist()
    [[1.0, 3.0, 0.0]]
    """
    _only_weights(weights, "a sample weight")
    return KerasMap(lookup(weights, size, other=other), other)


class _Page(NamedTuple):
    """What a text is made from; ``values`` are dense where the form is indexed by label."""

    weights: Weights
    values: list[float]
    name: str


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
    names = page.weights.names
    comments = {label: f"  # {_line(name)}" for label, name in names.items()}
    lines = [
        f"    {label}: {_literal(value)},{comments.get(label, '')}"
        for label, value in page.weights.as_dict().items()
    ]
    return "\n".join([f"# {page.weights.convention()}", f"{page.name} = {{", *lines, "}", ""])


def _literal(values: float | list[float]) -> str:
    """Return Python source for numbers; minus infinity (a masked bias) has no literal."""
    return repr(values).replace("-inf", 'float("-inf")')


def _line(name: str) -> str:
    """Name without what would end a comment."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())


_LARGEST_TABLE = 2**20


def _keras(page: _Page) -> str:
    _only_weights(page.weights, "a sample weight")
    weights = page.weights
    labels = [*weights.labels.tolist(), *weights.ignore]
    size = max(256, 1 + max(labels, default=0))
    if size > _LARGEST_TABLE or min(labels, default=0) < 0:
        raise OptionError(
            f"label {min(labels) if min(labels) < 0 else max(labels)} has no place in a lookup "
            "table: fold the labels into 0..K-1, and ignored ones into 255"
        )
    ignore, fold = _ignored(weights)
    first = "" if ignore is None else f", ignore_class={ignore}"
    return f"""{_python(page)}
import tensorflow as tf

# One entry a pixel value; what is no class weighs 0, an ignored label too.
table = tf.constant([{page.name}.get(value, 0.0) for value in range({size})], dtype=tf.float32)


def add_weights(image, mask):
    return image, mask, tf.gather(table, tf.cast(mask, tf.int32))


# dataset = dataset.map(add_weights)
{fold}loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True{first})
# Keras divides by the number of pixels{", ignored ones left out" if ignore is not None else ""}.
"""


def _ignored(weights: Weights) -> tuple[int | None, str]:
    """Label that a loss is told to ignore, and a line that turns the others into it."""
    if not weights.ignore:
        return None, ""
    first, *more = weights.ignore
    others = ", ".join(str(label) for label in more)
    return first, f"# Turn the labels {others} of the mask into {first} first.\n" if more else ""


def _torch(page: _Page) -> str:
    head = f"""# {page.weights.convention()}
import torch

{page.name} = torch.tensor({_literal(page.values)}, dtype=torch.float32)
"""
    return head + _TORCH_USES[page.weights.kind](page)


def _torch_weight(page: _Page) -> str:
    ignore, fold = _ignored(page.weights)
    first = "" if ignore is None else f", ignore_index={ignore}"
    pixels = "mask.numel()" if ignore is None else f"(mask != {ignore}).sum()"
    return f"""# reduction="mean" would divide by the weights of the batch: divide by its pixels.
{fold}criterion = torch.nn.CrossEntropyLoss(weight={page.name}{first}, reduction="sum")
# loss = criterion(logits, mask.long()) / {pixels}
"""


def _torch_pos_weight(page: _Page) -> str:
    return f"""# One sigmoid a channel, logits of shape (batch, {len(page.values)}, height, width).
criterion = torch.nn.BCEWithLogitsLoss(pos_weight={page.name}.view(-1, 1, 1))
"""


def _torch_bias(page: _Page) -> str:
    when = "afterwards" if page.weights.options.get("post_hoc") else "while training, not after"
    return f"""# Added to the logits {when}.
# logits = logits + {page.name}.view(1, -1, 1, 1)
"""


def _torch_margin(page: _Page) -> str:
    return f"""# Subtracted from the logit of the true class while training, not after.
# truth = torch.nn.functional.one_hot(mask.long(), {len(page.values)}).movedim(-1, 1)
# loss = torch.nn.functional.cross_entropy(
#     30 * (logits - truth * {page.name}.view(1, -1, 1, 1)), mask.long()
# )
"""


def _torch_item(page: _Page) -> str:
    return f"""# One number an image, in the order in which they were counted.
sampler = torch.utils.data.WeightedRandomSampler({page.name}, num_samples=len({page.name}))
"""


_TORCH_USES: dict[str, Callable[[_Page], str]] = {
    "weight": _torch_weight,
    "pos_weight": _torch_pos_weight,
    "bias": _torch_bias,
    "margin": _torch_margin,
    "item": _torch_item,
}


def _mmseg(page: _Page) -> str:
    _only_weights(page.weights, "class_weight")
    return f"""# {page.weights.convention()}
# Version 1 divides by the weights of the batch, and looks up class_weight[label] before it masks:
# no label outside 0..{len(page.values) - 1} may reach it, not 255 either.
loss_decode = dict(
    type="CrossEntropyLoss",
    use_sigmoid=False,
    loss_weight=1.0,
    class_weight={page.values!r},
)
"""


def _monai(page: _Page) -> str:
    _only_weights(page.weights, "the weight of a MONAI loss")
    return f"""# {page.weights.convention()}
import torch
from monai.losses import DiceCELoss

{page.name} = torch.tensor({page.values!r}, dtype=torch.float32)
# Its cross entropy divides by the weights of the batch where labels are integers, by the pixels
# where they are one-hot; there is no ignored label: mask such pixels yourself.
criterion = DiceCELoss(softmax=True, to_onehot_y=True, weight={page.name})
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
_DENSE = ("torch", "mmseg", "monai")


def render(
    weights: Weights,
    form: str,
    *,
    num_classes: int | None = None,
    order: Sequence[int] | None = None,
    name: str = "weights",
) -> str:
    """Weights as text that a user pastes.

    Parameters
    ----------
    weights : what to write.
    form : a key of :data:`FORMATS`.
    num_classes, order : for the forms that are indexed by label; see
        :meth:`fastcounts.weights.Weights.dense`.
    name : of the variable.

    Returns
    -------
    Text with a newline at its end.

    Raises
    ------
    OptionError : an unknown form; labels that need ``num_classes`` or ``order``; a name that
        Python cannot have.

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
    values = weights.dense(num_classes, order=order).tolist() if form in _DENSE else []
    return FORMATS[form](_Page(weights, values, name))
