"""The version of the software, as both services tell it."""

from __future__ import annotations

VERSION = "0.1.0"
