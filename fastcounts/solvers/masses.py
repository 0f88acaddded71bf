"""Weighted masses under which every constant answer costs the same, for any matrix of costs."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcounts.errors import InfeasibleCosts, MissingExtra
from fastcounts.weights import Floats

__all__ = ["equal_masses"]

_TINY = 1e-12


def equal_masses(
    costs: Floats,
    names: list[str],
    floor: float | None = None,
    objective: str = "maximin",
) -> Floats:
    """Weighted masses of the classes under which every constant answer costs the same.

    Solves ``costs @ m = x`` for ``m >= 0`` of sum 1, by a closed form where there is one, else by
    the solution nearest to equal masses. Where nothing solves it, ``floor`` gives the best that can
    be had with every mass at least ``floor / K``.

    Parameters
    ----------
    costs : (K, K) cost of answering i where j is true.
    names : (K,) for errors.
    floor : between 0 and 1, or None to refuse what has no exact solution.
    objective : ``"maximin"``: the cheapest answer costs as much as it can; ``"spread"``: the
        dearest costs as little more as it can.

    Returns
    -------
    (K,) float64 of sum 1.

    Raises
    ------
    InfeasibleCosts : no masses meet the costs and there is no floor.
    MissingExtra : the linear programme needs SciPy.

    Examples
    --------
    >>> import numpy as np
    >>> costs = np.array([[0, 1, 4, 4], [1, 0, 4, 4], [2, 2, 0, 1], [2, 2, 1, 0]])
    >>> equal_masses(costs, list("abcd")).round(6).tolist()
    [0.35, 0.35, 0.15, 0.15]
    """
    masses: Floats | None = _closed_form(costs)
    if masses is None:
        masses = _nearest(costs, np.full(len(costs), 1 / len(costs)))
    if masses is None or masses.min() < -_TINY:
        masses = _among_many(costs)
    if masses is not None:
        held = np.maximum(masses, 0)
        return np.asarray(held / held.sum())
    if floor is None:
        raise InfeasibleCosts(_why_infeasible(costs, names))
    return _programme(costs, floor, objective)


def _closed_form(costs: Floats) -> Floats | None:
    """Exact, positive answers for costs of a simple structure."""
    size = len(costs)
    right = np.diag(costs)
    rows = costs.sum(axis=1)
    if np.allclose(rows, rows[0], rtol=1e-14, atol=0) or size == 1:
        return np.full(size, 1 / size)
    off = ~np.eye(size, dtype=bool)
    by_truth = np.where(off, costs, -np.inf).max(axis=0)
    by_answer = np.where(off, costs, -np.inf).max(axis=1)
    if np.array_equal(costs[off], np.broadcast_to(by_truth, costs.shape)[off]):
        gain = by_truth - right
        return 1 / gain / (1 / gain).sum() if (gain > 0).all() else None
    if np.array_equal(costs[off], np.broadcast_to(by_answer[:, None], costs.shape)[off]):
        gain = by_answer - right
        if (gain > 0).all():
            common = ((by_answer / gain).sum() - 1) / (1 / gain).sum()
            return np.asarray((by_answer - common) / gain)
    return None


def _nearest(costs: Floats, start: Floats) -> Floats | None:
    """Masses of sum 1 that cost the same, as near to ``start`` as can be; of any sign."""
    centred = costs - costs.mean(axis=0)
    scale = max(float(np.abs(centred).max()), _TINY)
    system = np.vstack([centred / scale, np.ones(len(costs))])
    wanted = np.append(-centred @ start / scale, 0.0)
    step = np.linalg.lstsq(system, wanted, rcond=None)[0]
    solved = np.allclose(system @ step, wanted, rtol=0, atol=1e-10)
    return np.asarray(start + step) if solved else None


def _among_many(costs: Floats) -> Floats | None:
    """Nonnegative masses where the costs leave a choice: those whose least is largest."""
    if np.linalg.matrix_rank(np.vstack([costs - costs.mean(axis=0), np.ones(len(costs))])) == len(
        costs
    ):
        return None
    optimize = _scipy_optimize()
    size = len(costs)
    centred = costs - costs.mean(axis=0)
    scale = max(float(np.abs(centred).max()), _TINY)
    system = np.vstack([centred / scale, np.ones(size)])
    _, residual = optimize.nnls(system, np.append(np.zeros(size), 1.0))
    if residual > 1e-9:
        return None
    found = optimize.linprog(
        np.append(np.zeros(size), -1.0),
        A_ub=np.hstack([-np.eye(size), np.ones((size, 1))]),
        b_ub=np.zeros(size),
        A_eq=np.hstack([system, np.zeros((size + 1, 1))]),
        b_eq=np.append(np.zeros(size), 1.0),
        bounds=[(0, None)] * size + [(None, None)],
    )
    return _nearest(costs, found.x[:size]) if found.success else None


def _programme(costs: Floats, floor: float, objective: str) -> Floats:
    """Best masses where none are exact, each at least ``floor / K``."""
    size = len(costs)
    one, zero = np.ones((size, 1)), np.zeros((size, 1))
    if objective == "maximin":  # maximise t with costs @ m >= t
        goal = np.append(np.zeros(size), -1.0)
        upper = np.hstack([-costs, one])
    else:  # minimise u - l with l <= costs @ m <= u
        goal = np.append(np.zeros(size), [-1.0, 1.0])
        upper = np.vstack([np.hstack([-costs, one, zero]), np.hstack([costs, zero, -one])])
    extra = len(goal) - size
    found = _scipy_optimize().linprog(
        goal,
        A_ub=upper,
        b_ub=np.zeros(len(upper)),
        A_eq=np.append(np.ones(size), np.zeros(extra))[None],
        b_eq=[1.0],
        bounds=[(floor / size, None)] * size + [(None, None)] * extra,
    )
    if not found.success:
        raise InfeasibleCosts(f"the linear programme for these costs fails: {found.message}")
    return np.asarray(found.x[:size], dtype=np.float64)


def _scipy_optimize() -> Any:
    try:
        from scipy import optimize
    except ImportError as error:
        raise MissingExtra("costs that no formula solves need SciPy", "solve") from error
    return optimize


def _why_infeasible(costs: Floats, names: list[str]) -> str:
    """Name an answer that is always cheaper than another, if there is one."""
    advice = "floor=0.1 gives the best weights there are, with every class at a tenth of 1 / K"
    for cheap, row in enumerate(costs):
        for dear in np.flatnonzero((costs > row).all(axis=1)):
            return (
                f"always answering {names[cheap]} costs less than always answering {names[dear]} "
                f"whatever is true, so no weights make them equal: correct the costs, or {advice}"
            )
    return (
        "no nonnegative weights make all constant answers cost the same under these costs: one "
        f"class would need a negative one. Bring the costs closer together, or {advice}"
    )
