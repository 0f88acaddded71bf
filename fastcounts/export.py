"""Weights in the formats of other people: tensors, lookup tables, text to paste.

No library is imported before it is needed: torch, pandas and TensorFlow load on the first call.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastcounts.errors import MissingExtra, OptionError
from fastcounts.weights import Weights

if TYPE_CHECKING:
    import torch as torch_library

__all__ = ["FORMATS", "KerasMap", "keras", "lookup", "render", "torch"]


def lookup(weights: Weights, size: int = 256, *, other: float = 0.0) -> npt.NDArray[np.float32]:
    """Table from pixel value to weight, safe for ignored labels.

    ``table[mask]`` is the weight of every pixel. A network's own gather fails, or on a GPU silently
    gives 0, for a label such as 255 that is no class: in this table it has an entry.

    Parameters
    ----------
    weights : of any labels between 0 and ``size - 1``.
    size : entries; 256 for masks of 8 bits.
    other : weight of values that are no class, the ignored ones among them.

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
    if isinstance(size, bool) or int(size) != size or size < 1:
        raise OptionError(f"size={size!r}: give a whole number, 1 or more")
    outside = [label for label in labels if not 0 <= label < size]
    if outside:
        raise OptionError(
            f"label {outside[0]} has no place in a table for 0..{size - 1}: give a larger size, "
            "or fold the labels into 0..K-1"
        )
    table = np.full(int(size), other, dtype=np.float32)
    table[labels] = weights.values
    return table


def torch(
    weights: Weights, num_classes: int | None = None, *, order: Sequence[int] | None = None
) -> torch_library.Tensor:
    """Float32 tensor for ``torch.nn.CrossEntropyLoss(weight=...)``.

    The loss takes no other dtype. Its ``reduction="mean"`` divides by the weights of the pixels of
    the batch: use ``"none"`` and ``.mean()`` where equal cost is to hold in every batch.

    Parameters
    ----------
    weights : values of kind weight, pos_weight, bias or margin.
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


class KerasMap:
    """Turns (image, mask) into (image, mask, weight of every pixel).

    For ``dataset.map(...)`` of tf.data, and for NumPy arrays. Keras takes ``class_weight=`` for
    one label an image only; the weight of every pixel is what it calls ``sample_weight``.

    Parameters
    ----------
    table : (size,) float32, weight of every pixel value.
    """

    def __init__(self, table: npt.NDArray[np.float32]) -> None:
        self.table = table

    def __call__(self, image: Any, mask: Any) -> tuple[Any, Any, Any]:
        """Image and mask as they are, and the weight of every pixel."""
        return image, mask, self.weigh(mask)

    def weigh(self, mask: Any) -> Any:
        """Weight of every pixel, in the shape of the mask, without a last axis of length 1."""
        if isinstance(mask, np.ndarray):
            squeezed = mask[..., 0] if mask.ndim > 2 and mask.shape[-1] == 1 else mask
            return self.table[squeezed]
        try:
            import tensorflow as tf
        except ImportError as error:
            raise MissingExtra("a mask that is no array needs TensorFlow", "frameworks") from error
        squeezed = mask[..., 0] if mask.shape.rank > 2 and mask.shape[-1] == 1 else mask
        return tf.gather(self.table, tf.cast(squeezed, tf.int32))


def keras(weights: Weights, size: int = 256, *, other: float = 0.0) -> KerasMap:
    """Map function that gives Keras the weight of every pixel.

    Parameters
    ----------
    weights, size, other : see :func:`lookup`.

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
    return KerasMap(lookup(weights, size, other=other))


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
    lines = [
        f"    {label}: {value!r}," + (f"  # {names[label]}" if label in names else "")
        for label, value in page.weights.as_dict().items()
    ]
    return "\n".join([f"# {page.weights.convention()}", f"{page.name} = {{", *lines, "}", ""])


def _keras(page: _Page) -> str:
    return f"""{_python(page)}
import tensorflow as tf

# One entry a pixel value; what is no class, the ignored label too, weighs 0.
table = tf.constant([{page.name}.get(value, 0.0) for value in range(256)], dtype=tf.float32)


def add_weights(image, mask):
    return image, mask, tf.gather(table, tf.cast(mask, tf.int32))


# dataset = dataset.map(add_weights)
# model.compile(loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
# Keras divides by the number of pixels, those of weight 0 included.
"""


def _torch(page: _Page) -> str:
    ignore = page.weights.ignore
    first = f", ignore_index={ignore[0]}" if ignore else ""
    pixels = f"(mask != {ignore[0]}).sum()" if ignore else "mask.numel()"
    more = ", ".join(str(label) for label in ignore[1:])
    fold = f"# Turn the labels {more} of the mask into {ignore[0]} first.\n" if more else ""
    return f"""# {page.weights.convention()}
import torch

{page.name} = torch.tensor({page.values!r}, dtype=torch.float32)
# reduction="mean" would divide by the weights in the batch; divide by its pixels instead.
{fold}criterion = torch.nn.CrossEntropyLoss(weight={page.name}{first}, reduction="sum")
# loss = criterion(logits, mask.long()) / {pixels}
"""


def _mmseg(page: _Page) -> str:
    return f"""# {page.weights.convention()}
loss_decode = dict(
    type="CrossEntropyLoss",
    use_sigmoid=False,
    loss_weight=1.0,
    class_weight={page.values!r},
)
"""


FORMATS: dict[str, Callable[[_Page], str]] = {
    "json": _json,
    "csv": _csv,
    "python": _python,
    "keras": _keras,
    "torch": _torch,
    "mmseg": _mmseg,
}
_DENSE = ("torch", "mmseg")


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
    form : ``"json"``, ``"csv"``, ``"python"``, ``"keras"``, ``"torch"`` or ``"mmseg"``.
    num_classes, order : for the forms that are indexed by label; see
        :meth:`fastcounts.weights.Weights.dense`.
    name : of the variable.

    Returns
    -------
    Text with a newline at its end.

    Raises
    ------
    OptionError : an unknown form; labels that need ``num_classes`` or ``order``.

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
    values = weights.dense(num_classes, order=order).tolist() if form in _DENSE else []
    return FORMATS[form](_Page(weights, values, name))
