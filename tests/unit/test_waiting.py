"""Nobody waits for the store while holding a lock: the next one who wants it may be a request of the same thread."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("requestor_app", "processor_app", "service_kit")
#: Calls of a store that wait for a commit.
WAITING = {"update", "update_all", "purge", "renew_lease", "end_lease", "raise_token_floor"}
LOCKS = ("lock", "wake", "gate", "turn", "condition")


def is_lock(expression: ast.expr) -> bool:
    name = ast.unparse(expression).lower()
    return name.endswith(LOCKS) and not isinstance(expression, ast.Call)


def is_wait(node: ast.AST) -> bool:
    is_method = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WAITING
    return is_method and "store" in ast.unparse(node).lower().partition("(")[0]


def waits_under_locks(source: str) -> Iterator[int]:
    """The lines where a store is waited for inside a ``with`` of a lock."""
    for block in ast.walk(ast.parse(source)):
        if isinstance(block, ast.With) and any(is_lock(item.context_expr) for item in block.items):
            yield from (node.lineno for node in ast.walk(block) if isinstance(node, ast.Call) and is_wait(node))


def test_no_lock_is_held_while_the_store_is_waited_for() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for line in waits_under_locks(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("with self._lock:\n    self._store.update(step)", [2]),
        ("with self._wake, other:\n    x = [self.store.update_all(s) for s in t]", [2]),
        ("with self._lock:\n    names.update(more)", []),
        ("with self._lock:\n    x = 1\nself._store.update(step)", []),
        ("with self._reading() as connection:\n    self._store.update(step)", []),
    ],
)
def test_a_wait_under_a_lock_is_found(source: str, lines: list[int]) -> None:
    assert list(waits_under_locks(source)) == lines
