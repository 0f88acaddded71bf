"""What stands beside weights when they are solved: their diagnostics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastcounts import diagnostics
from fastcounts.solvers.costs import answer_costs
from fastcounts.solvers.register import Scheme
from fastcounts.solvers.tally import Tally
from fastcounts.weights import Floats, implied_prior

if TYPE_CHECKING:
    from fastcounts.counts import Counts

__all__ = ["diagnose"]

NEAR_INVERSE = 1.6
"""Effective numbers are called inverse frequency if ``n * w`` varies by less than this factor."""


def diagnose(
    counts: Counts, tally: Tally, values: Floats, record: Scheme, chosen: Mapping[str, Any]
) -> dict[str, Any]:
    """Diagnostics of weights; other kinds have no constant predictors to compare."""
    if record.kind != "weight":
        unexpected = diagnostics.flags_of_unexpected(counts)
        return {"flags": unexpected} if unexpected else {}
    weighs = bool((values[tally.present] > 0).any())
    found: dict[str, Any] = {"pixels": tally.pixels}
    if weighs:
        found = diagnostics.describe(tally.pixels, values)
    places = np.flatnonzero(np.isin(tally.labels, counts.labels))
    found["flags"] = [
        *diagnostics.flags(counts, values[places]),
        *_flags_of_scheme(tally, values, record, chosen),
    ]
    of_images = diagnostics.of_images(counts, values[places] if weighs else None)
    found["images"] = _widened(of_images, values.size, places)
    if not weighs:  # no costs to compare: the loss is 0 whatever the model predicts
        return found
    stated = _stated_costs(tally, values, record, chosen)
    if stated:
        found["stated_costs"] = stated
    costs = stated.get("after", found["implied_prior"])[tally.present]
    found["exact"] = bool(np.ptp(costs) <= 1e-9 * max(float(np.abs(costs).max()), 1e-300))
    return found


def _widened(found: dict[str, Any], size: int, places: npt.NDArray[np.intp]) -> dict[str, Any]:
    """Give diagnostics of images a place for every class that was asked for."""
    for name, column in found.items():
        if isinstance(column, np.ndarray):
            wide = np.full(size, np.nan if name == "log_weight_errors" else 0.0)
            wide[places] = column
            found[name] = wide
    return found


def _flags_of_scheme(
    tally: Tally, values: Floats, record: Scheme, chosen: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Flag effective numbers that are inverse frequency under another name.

    With as many prototypes as samples, the default, ``n * w`` varies by at most e / (e - 1) = 1.58.
    """
    if record.name != "effective_number":
        return []
    samples = (tally.presence if chosen["of"] == "presence" else tally.pixels)[tally.present]
    mass = samples * values[tally.present]
    if mass.max() > NEAR_INVERSE * mass.min() or samples.max() <= NEAR_INVERSE * samples.min():
        return []
    message = (
        f"these effective numbers are inverse frequency to within {mass.max() / mass.min() - 1:.0%}"
        ": give prototypes= below the samples of the largest class, or beta="
    )
    return [{"flag": "near_inverse", "labels": [], "message": message}]


def _stated_costs(
    tally: Tally, values: Floats, record: Scheme, chosen: Mapping[str, Any]
) -> dict[str, Floats]:
    """Costs of the constant answers, where they are not those of plain cross entropy."""
    alpha = chosen.get("alpha" if record.name == "label_smoothing" else "label_smoothing", 0)
    if record.name == "label_smoothing" or (alpha and chosen["framework"] == "torch"):
        pixels = tally.under_label_smoothing(alpha)
        return {
            when: diagnostics.constant_predictors(pixels, weights).by_pixels
            for when, weights in (("before", np.ones(values.shape)), ("after", values))
        }
    if record.name != "equal_cost":
        return {}
    if chosen["per_image"]:
        images = tally.images(record.name)
        return {
            when: diagnostics.costs_of_shares(diagnostics.mean_share(images, weights))
            for when, weights in (("before", np.ones(values.shape)), ("after", values))
        }
    costs = answer_costs(tally, chosen["eps"], chosen["costs"], chosen["label_smoothing"])
    if costs is None:
        return {}
    share = implied_prior(tally.pixels, values)
    return {"before": costs @ tally.frequencies, "after": costs @ share}
