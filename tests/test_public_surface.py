"""What the package makes public, name by name: a new or a lost one is a decision."""

from __future__ import annotations

import fastcounts as fc

PUBLIC = {
    *("Counter", "Counts", "Ledger", "Weights"),
    *("count", "count_delayed", "load", "load_classes"),
    *("solve", "schemes", "bootstrap", "advise"),
    *("FastcountsError", "__version__"),
    *("diagnostics", "errors", "export", "solvers"),
}


def test_package__makes_these_names_public() -> None:
    assert set(fc.__all__) == PUBLIC
    assert set(dir(fc)) == PUBLIC


def test_package__has_every_public_name() -> None:
    for name in PUBLIC:
        assert getattr(fc, name) is not None


def test_counts__have_these_public_members() -> None:
    found = {name for name in dir(fc.Counts()) if not name.startswith("_")}
    assert found == {
        *("labels", "pixels", "names", "members", "items", "options", "ledger", "covers"),
        *("presence", "presence_pixels", "presence_pixels_total", "unplaced"),
        *("open_items", "item_table", "provenance", "data_names", "incomplete"),
        *("frequencies", "as_dict", "to_pandas", "to_csv", "to_dict", "save"),
        *("from_pixels", "from_dict"),
    }
