"""Weights of equal cost where the loss of each image is divided by the image's own weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastcounts.errors import InfeasibleCosts, MissingExtra
from fastcounts.messages import argument
from fastcounts.weights import Floats, Integers

__all__ = ["Certificate", "existence", "log_weight_influence", "per_image_weights"]

_ROUNDS = 20_000
_ADVICE = (
    f"larger batches, or leave out {argument('per_image')} and divide by all pixels of the batch "
    "(format torch prints that loss): then every class can have its share"
)


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
    InfeasibleCosts : no weights do it, and which classes are why (:func:`existence`); or the
        iteration does not settle.

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
    _refuse_rare((rows > 0).mean(axis=0), called)
    weights = rows.shape[1] / rows.sum(axis=0)
    for _ in range(_ROUNDS):
        mass = rows * weights
        shares = (mass / mass.sum(axis=1, keepdims=True)).mean(axis=0)
        off = shares * rows.shape[1]
        if np.abs(off - 1).max() < tolerance:
            values = np.zeros(held.size)
            values[held] = weights / weights.mean()
            return values
        weights = weights / off
        weights /= weights.mean()
    raise InfeasibleCosts(_why_unsettled(rows, shares, called))


def log_weight_influence(images: Floats, weights: Floats) -> Floats:
    """Derivatives of the logarithms of :func:`per_image_weights` by the weight of each image.

    Implicit differentiation of ``mean over images of share = 1 / K``, on the scale on which the
    mean weight of a pixel stays what it is.

    Parameters
    ----------
    images : (B, K) pixels of every class in every image.
    weights : (K,) that balance them.

    Returns
    -------
    (B, K) float64 of mean 0; 0 for a class without pixels.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.array([[6.0, 2.0], [6.0, 2.0]])
    >>> log_weight_influence(images, np.array([0.5, 1.5])).tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    mass = images * weights
    summed = mass.sum(axis=1, keepdims=True)
    shares = np.divide(mass, summed, out=np.zeros_like(mass), where=summed > 0)
    size = int(np.count_nonzero(weights))
    off = np.where(summed > 0, shares - (weights > 0) / max(size, 1), 0.0)
    slope = np.diag(shares.sum(axis=0)) - shares.T @ shares
    found = -off @ np.linalg.pinv(slope, hermitian=True)
    return np.asarray(found - (found @ mass.sum(axis=0) / mass.sum())[:, None] * (weights > 0))


def _refuse_rare(part: Floats, called: list[str]) -> None:
    """Refuse a class in fewer than 1 / K of the images; needs no linear programme."""
    if (part * part.size < 1 - 1e-12).any():
        rare = int(part.argmin())
        raise InfeasibleCosts(
            f"class {called[rare]} is in {part[rare]:.2%} of the images, and its share of the "
            f"loss can be no more than that, not 1 / {part.size}: {_ADVICE}"
        )


def _why_unsettled(rows: Floats, shares: Floats, called: list[str]) -> str:
    """Say why there are no weights, or that none were found."""
    try:
        found = existence(rows > 0)
    except MissingExtra:
        found = None
    size = len(called)
    if found is not None and not found.exists:
        some = ", ".join(called[place] for place in found.classes[:8])
        much = "no more than" if found.images <= found.needed * (1 + 1e-9) else "more than"
        return (
            f"no weights give every class its share in batches of one image: the classes {some} "
            f"need {len(found.classes)} / {size} of the loss, and the images that hold any of them "
            f"are {found.images:.2%} of all, {much} that, and hold other classes too: {_ADVICE}"
        )
    worst = int(np.abs(shares * size - 1).argmax())
    return (
        f"no weights that give every class its share in batches of one image were found in "
        f"{_ROUNDS} rounds: class {called[worst]} comes to {shares[worst]:.7g} and should be "
        f"{1 / size:.7g}: {_ADVICE}"
    )


@dataclass(frozen=True)
class Certificate:
    """Whether weights exist that give every class its share in batches of one image.

    Attributes
    ----------
    exists : they do.
    margin : the largest least share that the classes can have in the images that hold them, where
        all shares of all images add up to 1; above zero where the weights exist, minus infinity
        where no shares add up.
    classes : where they do not: places of classes that ask for more than their images have.
    needed : what those classes ask for, in parts of the loss.
    images : part of the images that hold any of them.
    """

    exists: bool
    margin: float
    classes: tuple[int, ...] = ()
    needed: float = 0.0
    images: float = 0.0


def existence(held: npt.NDArray[np.bool_]) -> Certificate:
    """Decide by a linear programme whether weights of equal cost exist for batches of one image.

    Largest ``d`` for which a matrix X has ``X >= d`` where the image holds the class, 0 elsewhere,
    rows of sum ``1 / B`` and columns of sum ``1 / K``. The weights exist where ``d > 0``. Images
    that hold the same classes are one row, which changes nothing and makes the programme small.

    Parameters
    ----------
    held : (B, K) which image holds which class; every image one, every class an image.

    Returns
    -------
    Certificate : where no weights exist, with the classes that are why.

    Raises
    ------
    MissingExtra : the linear programme needs SciPy.

    Notes
    -----
    Menon (1968), Matrix links; Rothblum and Schneider (1989), Linear Algebra and its Applications.
    Where there is no such matrix, some classes ask for more than the images that hold any of them
    (Hall's condition); the dual of the programme names them.

    Examples
    --------
    >>> import numpy as np
    >>> existence(np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]]) > 0).exists
    True
    >>> existence(np.array([[1, 0], [1, 1]]) > 0).classes
    (1,)
    """
    patterns, times = np.unique(np.asarray(held, dtype=np.bool_), axis=0, return_counts=True)
    part = times / times.sum()
    margin, asked = _largest_margin(patterns, part)
    if margin > 1e-9:
        return Certificate(True, margin / int(times.sum()))
    levels = np.unique(asked.round(9))[1:]
    found = [_asking(patterns, part, asked >= level - 5e-10) for level in levels]
    classes, needed, images = max(found, key=lambda each: each[1] - each[2])
    return Certificate(False, margin / int(times.sum()), classes, needed, images)


def _asking(
    patterns: npt.NDArray[np.bool_], part: Floats, chosen: npt.NDArray[np.bool_]
) -> tuple[tuple[int, ...], float, float]:
    """Some classes, what they need of the loss, and the part of the images that hold any."""
    places = tuple(np.flatnonzero(chosen).tolist())
    images = float(part[patterns[:, chosen].any(axis=1)].sum())
    return places, len(places) / patterns.shape[1], images


def _apart(patterns: npt.NDArray[np.bool_], part: Floats) -> Floats:
    """Mark the classes that share no image with any other and ask for more than they have."""
    marks = np.eye(patterns.shape[1], dtype=np.bool_)
    for pattern in patterns:  # join all groups of classes that meet in an image
        touched = marks[:, pattern].any(axis=1)
        marks = np.vstack([marks[~touched], marks[touched].any(axis=0)])
    groups = [_asking(patterns, part, group) for group in marks]
    worst = max(range(len(groups)), key=lambda place: groups[place][1] - groups[place][2])
    return np.asarray(marks[worst], dtype=np.float64)


def _largest_margin(patterns: npt.NDArray[np.bool_], part: Floats) -> tuple[float, Floats]:
    """Largest least entry, for an image of sum 1, and a number a class: high where it asks."""
    optimize, sparse = _scipy()
    size = patterns.shape[1]
    row, column = np.nonzero(patterns)
    cells = np.arange(row.size)
    # x = s * d + y with y >= 0: unknown are the y of every cell, and d
    of_rows = sparse.csr_matrix((np.ones(row.size), (row, cells)), (len(patterns), row.size))
    of_columns = sparse.csr_matrix((np.ones(row.size), (column, cells)), (size, row.size))
    of_margin = np.append(part * patterns.sum(axis=1), part @ patterns)
    system = sparse.hstack([sparse.vstack([of_rows, of_columns]), of_margin[:, None]])
    found = optimize.linprog(
        np.append(np.zeros(row.size), -1.0),
        A_eq=system.tocsr(),
        b_eq=np.append(part, np.full(size, 1 / size)),
        bounds=[(0, None)] * row.size + [(None, None)],
        method="highs",
    )
    if found.status == 2:  # no X at all: classes that never meet, and do not balance
        return -np.inf, _apart(patterns, part)
    if not found.success:
        raise InfeasibleCosts(f"the linear programme for these images fails: {found.message}")
    return float(found.x[-1]), np.asarray(found.eqlin.marginals[len(patterns) :])


def _scipy() -> tuple[Any, Any]:
    try:
        from scipy import optimize, sparse
    except ImportError as error:
        raise MissingExtra("whether such weights exist is decided with SciPy", "solve") from error
    return optimize, sparse
