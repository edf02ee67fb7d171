from __future__ import annotations

from typing import Any

import pytest

from processor_app.delivery.details import MAX_ROWS, details_of


@pytest.mark.parametrize(
    ("details", "rows"),
    [
        (None, []),
        ({}, []),
        ({"item": "chair", "unit_price": 1.5}, [("item", "chair"), ("unit price", "1.5")]),
        ({"a": None, "b": True, "c": False, "d": ""}, [("a", "–"), ("b", "✓"), ("c", "✗"), ("d", "")]),
        ({"to": {"city": "Köln", "zip": {"code": 1}}}, [("to › city", "Köln"), ("to › zip › code", "1")]),
        ({"sizes": [1, "L", None], "none": []}, [("sizes", "1, L, –"), ("none", "–")]),
        ({"items": [{"sku": "A"}, {"sku": "B"}]}, [("items › 1 › sku", "A"), ("items › 2 › sku", "B")]),
        ({"grid": [[1, 2], [3]]}, [("grid › 1", "1, 2"), ("grid › 2", "3")]),
        ({"long": "x" * 600}, [("long", "x" * 500 + " …")]),
    ],
)
def test_details_of_any_shape_become_rows(details: dict[str, Any] | None, rows: list[tuple[str, str]]) -> None:
    assert details_of(details) == (tuple(rows), False)


def test_rows_beyond_the_bound_are_left_out_and_said_to_be() -> None:
    shown = details_of({str(number): number for number in range(MAX_ROWS + 1)})
    assert (len(shown.rows), shown.has_more) == (MAX_ROWS, True)
    assert not details_of({str(number): number for number in range(MAX_ROWS)}).has_more
