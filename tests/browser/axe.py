"""axe-core, the checker of accessibility, from npm: fetched once into a folder of the virtual environments."""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.system import give_up, require_program

ROOT = Path(__file__).resolve().parents[2]
VERSION = "4.14.1"
_FOLDER = ROOT / ".venvs" / f"axe-core-{VERSION}"
_SCRIPT = _FOLDER / "node_modules" / "axe-core" / "axe.min.js"
_FETCH_S = 120
_SERIOUS = ("serious", "critical")
_RUN = "axe.run(document, {resultTypes: ['violations', 'incomplete']})"


def load_axe() -> str:
    """The script of axe-core. Without it the test is skipped, or fails where nothing may be skipped."""
    if not _SCRIPT.exists():
        npm = require_program("npm")
        _FOLDER.mkdir(parents=True, exist_ok=True)
        # Others may fetch it at the same time; one of them puts it in its place, whole.
        with tempfile.TemporaryDirectory(dir=_FOLDER) as folder:
            command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", folder]
            try:
                subprocess.run([*command, f"axe-core@{VERSION}"], check=True, capture_output=True, timeout=_FETCH_S)
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
                give_up(f"needs axe-core {VERSION} from npm")
            with suppress(OSError):
                Path(folder, "node_modules").rename(_FOLDER / "node_modules")
    return _SCRIPT.read_text(encoding="utf-8")


def serious_findings(page: Page, axe: str) -> list[str]:
    """What a person who sees or steers differently would stumble over, and where."""
    page.evaluate(axe)  # by the debugger: the page's own policy would not let it in
    found: dict[str, Any] = page.evaluate(_RUN)
    return [
        f"{violation['id']}: {violation['help']}: {[node['target'] for node in violation['nodes']]}"
        for violation in found["violations"]
        if violation["impact"] in _SERIOUS
    ]
