"""Convert weights for other libraries: tensors, lookup tables, maps, and text to paste.

The text is printed by :mod:`fastcounts.snippets`. No library is imported before it is needed:
torch, pandas and TensorFlow are imported on the first call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastcounts.errors import MissingExtra, OptionError
from fastcounts.snippets import FORMATS, check_kind, render
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

    The weight needs the dtype of the logits: float32 also under autocast, which computes the loss
    in float32; ``.to(logits.dtype)`` for a model that was converted to half or bfloat16.
    ``reduction="mean"`` divides by the weights of the pixels of the batch. If equal cost is to hold
    in the mean over the batches, use ``"sum"`` and divide by the number of all pixels of the batch,
    ignored ones included. ``render(weights, "torch")`` prints that loss.

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
    check_kind(weights, "the alpha of a focal loss")
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
    check_kind(weights, "ln w")
    return single_precision(logit_bias(weights.dense(num_classes, order=order)))


def sample_weights(weights: Weights, labels: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Weight of every sample, for ``fit(sample_weight=)`` of scikit-learn, XGBoost and LightGBM.

    Parameters
    ----------
    weights : of kind weight.
    labels : (n,) label of every sample, or an array of any shape. Ignored labels weigh 0. Leave
        their samples out of the training data: scikit-learn makes a class of every label of its
        targets, and predicts it, whatever it weighs.

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
    check_kind(weights, "a sample weight")
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


class KerasMap:
    """Turn (image, mask) into (image, mask, weight of every pixel).

    For ``dataset.map(...)`` of tf.data, and for arrays and torch tensors. The weight of every pixel
    is what Keras calls ``sample_weight``; its ``class_weight=`` is for one label per image. The
    mask is returned as it is: ignored labels weigh 0, and the loss must take another label for
    them, as the code that ``render(weights, "keras")`` prints does.

    Parameters
    ----------
    table : (size,) float32, weight of every label.
    other : weight of labels that have no place in the table.
    ignore : labels that weigh 0 although they have no place in the table, such as -1.
    """

    def __init__(
        self, table: npt.NDArray[np.float32], other: float = 0.0, ignore: Sequence[int] = ()
    ) -> None:
        self.table = table
        self.ignore = tuple(label for label in ignore if not 0 <= label < len(table))
        # two more places: one for all other labels, one for ignored labels outside of the table
        self._wide = np.append(table, np.array([other, 0], dtype=np.float32))

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
            for label in self.ignore:
                places = library.where(labels == label, size + 1, places)
            return library.from_numpy(self._wide).to(mask.device)[places]
        try:
            import tensorflow as tf
        except ImportError as error:
            raise MissingExtra("a mask that is no array needs TensorFlow", "frameworks") from error
        labels = tf.cast(squeezed, tf.int64)
        inside = (labels >= 0) & (labels < size)
        places = tf.where(inside, labels, tf.constant(size, tf.int64))
        for label in self.ignore:
            places = tf.where(labels == label, tf.constant(size + 1, tf.int64), places)
        return tf.gather(self._wide, places)

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
        places = np.where((places >= 0) & (places < size), places, size)
        for label in self.ignore:
            places[labels == label] = size + 1
        return self._wide[places]


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
    KerasMap : for ``dataset.map(...)``; the loss then divides by the number of all pixels, unless
        it has an ``ignore_class``.

    Examples
    --------
    >>> import numpy as np, fastcounts as fc
    >>> weights = fc.solve(fc.Counts.from_pixels({0: 3, 1: 1}), "inverse")
    >>> _, _, weight = keras(weights)(None, np.array([[0, 1, 255]], dtype=np.uint8))
    >>> weight.tolist()
    [[1.0, 3.0, 0.0]]
    """
    check_kind(weights, "a sample weight")
    return KerasMap(lookup(weights, size, other=other), other, weights.ignore)
