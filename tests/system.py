"""System programs that some tests need."""

from __future__ import annotations

import os
import shutil

import pytest


def require_program(name: str) -> str:
    """The path of a program; without it the test is skipped, or fails where nothing may be skipped."""
    path = shutil.which(name)
    if path is None:
        reason = f"needs the program {name}"
        if os.environ.get("REQUIRE_ALL"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path
