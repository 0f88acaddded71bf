"""Schemes that say how often each image is drawn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastcounts.errors import SolveError
from fastcounts.messages import argument
from fastcounts.solvers.options import at_least, number, whole
from fastcounts.solvers.register import scheme
from fastcounts.solvers.tally import Tally
from fastcounts.weights import Floats

__all__ = ["class_uniform", "rare_class", "rare_class_chances", "repeat_factor"]


@scheme(
    formula="max over the classes of the image of max(1, sqrt(threshold / f)), f = df / B",
    tex=r"\max_{c \in I} \max\left(1, \sqrt{\frac{t}{\mathrm{df}_c / B}}\right)",
    source="Gupta, Dollar and Girshick (2019), LVIS, arXiv:1908.03195; detectron2",
    absent="no image holds it: it plays no part",
    kind="item",
    needs="items",
    threshold="classes in a smaller part of the images than this are repeated",
)
def repeat_factor(tally: Tally, *, threshold: float = 0.001) -> Floats:
    """How often an epoch shows each image, so that images with rare classes come again."""
    images = tally.images("repeat_factor") > 0
    part = images.sum(axis=0) / len(images)
    factors = np.maximum(1.0, np.sqrt(number("threshold", threshold, above=0) / part))
    return np.asarray(np.where(images, factors, 1.0).max(axis=1, initial=1.0))


@scheme(
    formula="sum over classes of softmax((1 - p) / T), shared by the images with enough of it",
    tex=r"\sum_c \frac{\operatorname{softmax}_c((1 - p_c) / T)}{|\{I : n_{Ic} > n_{\min}\}|}",
    source="Hoyer, Dai and Van Gool (2022), DAFormer, arXiv:2111.14887",
    absent="it would ask for images that are not there; under absent='zero' it plays no part",
    kind="item",
    needs="items",
    temperature="the smaller, the more the rarest class is preferred",
    min_pixels="an image counts for a class where it holds more pixels of it than these",
)
def rare_class(tally: Tally, *, temperature: float = 0.01, min_pixels: int = 3000) -> Floats:
    """Chance of drawing each image: a rare class first, then one of the images that hold it."""
    least = at_least("min_pixels", min_pixels, 0)
    enough = (tally.images("rare_class") > least)[:, tally.present]
    holders = enough.sum(axis=0)
    if (holders == 0).any():
        names = np.array(tally.called())[tally.present][holders == 0]
        raise SolveError(
            f"no image holds more than {least:g} pixels of class {', '.join(names[:8])}: lower "
            f"{argument('min_pixels')}, or fold the class into another"
        )
    chance = rare_class_chances(tally.frequencies[tally.present], temperature)
    return np.asarray(enough @ (chance / holders))


def rare_class_chances(frequencies: npt.ArrayLike, temperature: float = 0.01) -> Floats:
    """Chance that DAFormer's sampling draws each class: ``softmax((1 - p) / temperature)``.

    Parameters
    ----------
    frequencies : (K,) share of each class in the pixels.
    temperature : above 0.

    Returns
    -------
    (K,) float64 of sum 1.

    Examples
    --------
    >>> rare_class_chances([0.6, 0.3, 25 / 300, 5 / 300], 0.1).round(6).tolist()
    [0.001859, 0.03734, 0.325946, 0.634855]
    """
    heat = (1 - np.asarray(frequencies)) / number("temperature", temperature, above=0)
    risen = np.exp(heat - heat.max())
    return np.asarray(risen / risen.sum())


@scheme(
    formula="draws of each image in an epoch of B: part of them class by class, the rest at random",
    tex=r"\sum_{c \in I} \frac{\lfloor B\,q / K \rfloor}{\mathrm{df}_c} + \text{rest} / B",
    source="Zhu et al. (2019), arXiv:1812.01593; NVIDIA semantic-segmentation, there with tiles",
    absent="it would ask for images that are not there; under absent='zero' it plays no part",
    kind="item",
    needs="items",
    part="how much of an epoch is drawn class by class",
    epoch="images in an epoch; None for as many as there are",
)
def class_uniform(tally: Tally, *, part: float = 0.5, epoch: int | None = None) -> Floats:
    """How often an epoch is expected to show each image when the classes take turns."""
    images = tally.images("class_uniform") > 0
    images = images[:, images.any(axis=0)]
    size = len(images) if epoch is None else whole("epoch", epoch, 1)
    each = int(size * at_least("part", part, 0, most=1) / images.shape[1])
    rest = size - each * images.shape[1]
    return np.asarray(images @ (each / images.sum(axis=0)) + rest / len(images))
