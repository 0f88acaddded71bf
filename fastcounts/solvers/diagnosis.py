"""What stands beside weights when they are solved: their diagnostics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcounts import diagnostics
from fastcounts.solvers.costs import answer_costs
from fastcounts.solvers.register import Scheme
from fastcounts.solvers.tally import Tally
from fastcounts.weights import Floats, implied_prior

if TYPE_CHECKING:
    from fastcounts.counts import Counts

__all__ = ["diagnose"]


def diagnose(
    counts: Counts, tally: Tally, values: Floats, record: Scheme, chosen: Mapping[str, Any]
) -> dict[str, Any]:
    """Diagnostics of weights; other kinds have no constant predictors to compare."""
    if record.kind != "weight" or not (values[tally.present] > 0).any():
        return {}
    found = diagnostics.describe(tally.pixels, values)
    stated = _stated_costs(tally, values, record, chosen)
    if stated:
        found["stated_costs"] = stated
    costs = stated.get("after", found["implied_prior"])[tally.present]
    found["exact"] = bool(np.ptp(costs) <= 1e-9 * max(float(np.abs(costs).max()), 1e-300))
    places = np.flatnonzero(np.isin(tally.labels, counts.labels))
    found["flags"] = diagnostics.flags(counts, values[places])
    found["images"] = diagnostics.of_images(counts)
    for name, column in found["images"].items():
        if name != "missing":
            wide = np.full(values.size, np.nan if name == "log_weight_errors" else 0.0)
            wide[places] = column
            found["images"][name] = wide
    return found


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
