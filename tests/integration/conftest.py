from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sinks.scripted import Script, ScriptedServer
from tests.system import require_program


@pytest.fixture
def make_server() -> Iterator[Callable[[Script], ScriptedServer]]:
    """Makes servers that do what a script says."""
    made: list[ScriptedServer] = []

    def make(script: Script) -> ScriptedServer:
        made.append(ScriptedServer(script))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of its own authority for host.example, and its key, in one file."""
    openssl = require_program("openssl")
    folder = tmp_path_factory.mktemp("tls")
    key, chain = folder / "key.pem", folder / "chain.pem"
    command = [openssl, "req", "-x509", "-nodes", "-days", "2", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    name = ["-subj", "/CN=host.example", "-addext", "subjectAltName=DNS:host.example"]
    subprocess.run([*command, *name, "-keyout", str(key), "-out", str(chain)], check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes(key.read_bytes() + chain.read_bytes())
    return both
