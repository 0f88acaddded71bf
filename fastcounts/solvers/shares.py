"""Weights of equal cost where the loss of each image is divided by the image's own weights."""

from __future__ import annotations

import numpy as np

from fastcounts.errors import InfeasibleCosts
from fastcounts.weights import Floats, Integers

__all__ = ["per_image_weights"]


def per_image_weights(images: Integers, names: list[str], *, tolerance: float = 1e-12) -> Floats:
    """Weights of equal cost where the loss of each image is divided by the image's own weights.

    ``mean over images of w[i] n[b, i] / sum(w n[b])`` is made ``1 / K`` for every class, by
    Sinkhorn's iteration: the images scaled to equal sums, then the classes, until both hold.

    Parameters
    ----------
    images : (B, K) pixels of every class in every image.
    names : (K,) for errors.
    tolerance : on the shares.

    Returns
    -------
    (K,) float64 of mean 1 over the classes that have pixels; 0 for the others.

    Raises
    ------
    InfeasibleCosts : a class is in fewer than 1 / K of the images, or the iteration does not
        settle because no weights do it.

    Notes
    -----
    Sinkhorn (1967); a scaling exists where a matrix with the same zeros has the wanted sums
    (Menon 1968; Rothblum and Schneider 1989).

    Examples
    --------
    >>> import numpy as np
    >>> images = np.array([[60, 30, 10, 0], [80, 20, 0, 0], [40, 40, 15, 5]])
    >>> per_image_weights(images, list("abcd")).round(6).tolist()
    [0.012669, 0.038945, 0.270965, 3.677421]
    """
    held = images.sum(axis=0) > 0
    rows = images[images.sum(axis=1) > 0][:, held].astype(np.float64)
    called = [name for name, here in zip(names, held, strict=True) if here]
    size = len(called)
    in_images = (rows > 0).mean(axis=0)
    if (in_images < 1 / size).any():
        rare = int(in_images.argmin())
        raise InfeasibleCosts(
            f"class {called[rare]} is in {in_images[rare]:.2%} of the images, and its share of the "
            f"loss can be no more than that, not 1 / {size}: larger batches, or divide by the "
            "pixels (reduction='sum') and leave out per_image"
        )
    weights = size / rows.sum(axis=0)
    for _ in range(20_000):
        mass = rows * weights
        shares = (mass / mass.sum(axis=1, keepdims=True)).mean(axis=0)
        if np.abs(shares * size - 1).max() < tolerance:
            values = np.zeros(held.size)
            values[held] = weights / weights.mean()
            return values
        weights = weights / (shares * size)
        weights /= weights.mean()
    worst = int(np.abs(shares * size - 1).argmax())
    raise InfeasibleCosts(
        f"no weights give every class its share in batches of one image: class {called[worst]} "
        f"comes to {shares[worst]:.4f} and should be {1 / size:.4f}, since the images that hold it "
        "hold too little else, or too much. Use larger batches, or leave out per_image"
    )
