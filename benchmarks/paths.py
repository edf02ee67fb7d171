"""Where things are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: What runs leave for a while. On the disk of the project: a temporary folder may lie in memory, where an fsync costs
#: nothing.
DATA = ROOT / "data" / "benchmarks"
