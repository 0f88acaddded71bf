"""The scheme that the question asks for: every constant answer costs the same."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from fastcounts.errors import OptionError
from fastcounts.messages import argument
from fastcounts.solvers.masses import equal_masses
from fastcounts.solvers.options import at_least, choice, flag, per_class
from fastcounts.solvers.register import scheme
from fastcounts.solvers.shares import per_image_weights
from fastcounts.solvers.tally import Tally
from fastcounts.weights import Floats, weights_from_prior

__all__ = ["answer_costs", "equal_cost"]


@scheme(
    formula="m / n, with masses m that solve C m = x; m is the same for all classes by default",
    tex=r"\frac{m_c}{n_c},\quad C m = x \mathbf 1",
    source="the condition itself: always answering class i costs the same for every i",
    absent="0: no weight of it changes the cost of a constant answer; the policy decides",
    published="pixel_mean",
    per_output="eps label_smoothing",
    eps="how much probability a constant answer leaves to the others, one number a class; equal for"
    " all (None), it makes no difference",
    costs="K x K matrix: costs[i][j] of answering i where j is true; None for equal costs",
    floor="where no masses meet the costs: the least mass a class gets, in parts of 1 / K; None"
    " refuses",
    objective="with a floor: 'maximin' makes the cheapest answer dear, 'spread' the range small",
    label_smoothing="what the loss gets as label_smoothing, from 0 to below 1",
    framework="whose label smoothing: that of 'keras' makes a difference with eps only; 'torch'"
    " weighs the smoothed part by the weights of all classes, as the scheme label_smoothing",
    per_image="equal under torch's weighted mean in batches of one image, which divides by the"
    " weights of the batch; needs keep_items",
)
def equal_cost(
    tally: Tally,
    *,
    eps: Any = None,
    costs: Any = None,
    floor: float | None = None,
    objective: Literal["maximin", "spread"] = "maximin",
    label_smoothing: float = 0.0,
    framework: Literal["keras", "torch"] = "keras",
    per_image: bool = False,
) -> Floats:
    """Every constant answer costs the same: the only such weights, up to their scale."""
    smoothed = at_least("label_smoothing", label_smoothing, 0, below=1) > 0
    by_torch = choice("framework", framework, "keras", "torch") == "torch" and smoothed
    if sum((eps is not None, costs is not None, flag("per_image", per_image), by_torch)) > 1:
        raise OptionError(
            f"{argument('eps')}, {argument('costs')}, {argument('per_image')} and the label "
            "smoothing of torch exclude each other: give one"
        )
    if costs is not None and smoothed:
        raise OptionError(
            f"{argument('costs')} already say what label smoothing does to them: leave it out"
        )
    if per_image:
        return per_image_weights(
            tally.images(f"equal_cost (with {argument('per_image', True)})"), tally.called()
        )
    if by_torch:
        return np.asarray(1 / tally.under_label_smoothing(label_smoothing))
    matrix = answer_costs(tally, eps, costs, label_smoothing)
    masses = np.ones(tally.labels.size)
    if matrix is not None:
        held = tally.present
        names = [name for name, here in zip(tally.called(), held, strict=True) if here]
        least = None if floor is None else at_least("floor", floor, 0, most=1)
        choice("objective", objective, "maximin", "spread")
        masses[held] = equal_masses(matrix[np.ix_(held, held)], names, least, objective)
    return weights_from_prior(tally.pixels, np.where(tally.present, masses, 0))


def answer_costs(
    tally: Tally, eps: Any = None, costs: Any = None, label_smoothing: float = 0.0
) -> Floats | None:
    """Matrix of what each constant answer costs on each class; None where the costs are equal.

    Parameters
    ----------
    tally : the classes.
    eps : what each answer leaves to the other classes, one number a class.
    costs : (K, K) the matrix itself.
    label_smoothing : as Keras does it, for what ``eps`` makes: part of the cost of every truth.

    Raises
    ------
    OptionError : numbers of another shape, or none that are costs.
    """
    size = tally.labels.size
    if costs is not None:
        try:
            matrix = np.asarray(costs, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            matrix = np.empty(0)
        if matrix.shape != (size, size) or not np.isfinite(matrix).all():
            raise OptionError(
                f"{argument('costs')}: give {size} rows of {size} finite numbers, costs[i][j] "
                "for answering class i where class j is true, in the order of the labels"
            )
        return matrix
    if eps is None:
        return None
    left = per_class("eps", eps, tally)
    if not ((left > 0) & (left < 1)).all() or size < 2:
        raise OptionError(
            f"{argument('eps', eps)}: give numbers between 0 and 1, for two classes or more"
        )
    matrix = np.repeat(-np.log(left / (size - 1))[:, None], size, axis=1)
    np.fill_diagonal(matrix, -np.log1p(-left))
    return np.asarray(
        (1 - label_smoothing) * matrix + label_smoothing * matrix.mean(axis=1, keepdims=True)
    )
