"""Who may import whom. The rules are one table; a breach names the file, the line and the rule.

Every import counts, wherever it stands: at the top, in a function, under ``TYPE_CHECKING``, or as
``import_module("...")``. Standard modules are free unless a rule names them.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = (
    *("proto", "service_kit", "requestor_app", "processor_app", "requestor_client"),
    *("wsgi_requestor", "wsgi_processor", "dev", "devtools", "demo"),
)
PRODUCT = tuple(name for name in OURS if name not in {"proto", "dev", "devtools", "demo"})

#: Pure decisions. A new domain module is added here.
REQUESTOR_DOMAIN = ("requestor_app.deliveries", "requestor_app.domain", "requestor_app.tracking")
PROCESSOR_DOMAIN = (
    "processor_app.domain",
    "processor_app.steps",
    "processor_app.delivery.breaker",
    "processor_app.delivery.channel",
    "processor_app.delivery.delivery",
    "processor_app.delivery.doors",
    "processor_app.delivery.lifecycle",
    "processor_app.delivery.plan",
    "processor_app.delivery.retries",
    "processor_app.delivery.sellers",
)
#: What a domain module needs of the kit; all of it is pure.
PURE_KIT = (
    "service_kit.errors",
    "service_kit.change",
    "service_kit.times",
    "service_kit.values",
    "service_kit.rules",
    "service_kit.origin",
)

REQUESTOR_VIEWS = ("requestor_app.api", "requestor_app.console")
PROCESSOR_VIEWS = ("processor_app.api", "processor_app.console", "processor_app.replies.page")
VIEWS = (*REQUESTOR_VIEWS, *PROCESSOR_VIEWS)
EDGES = ("requestor_app.processor_client", "requestor_app.processor_probe", "processor_app.rpc")
#: The command line puts its parts together itself, as bootstrap does for the services.
COMMANDS = ("requestor_app.commands", "processor_app.commands")
BOOTSTRAPS = ("requestor_app.bootstrap", "processor_app.bootstrap", *COMMANDS)
APPS = ("requestor_app", "processor_app")

WEB = ("flask", "werkzeug", "marshmallow", "apispec", "waitress")
GRPC = ("grpc", "grpc_health", "grpc_reflection", "google", "proto")
DRIVERS = ("sqlite3", "redis")
ENGINES = (*DRIVERS, "service_kit.storage")
CONTRACT = ("service_kit.storage.contract",)
THREADS = ("threading", "_thread", "concurrent", "multiprocessing")


class Rule(NamedTuple):
    """What the modules in ``where`` (but not in ``but_not``) may import. A name stands for all that is below it.

    ``only``: of what is neither standard nor their own, nothing else. ``never``: none of it, save ``save``.
    """

    name: str
    where: tuple[str, ...]
    but_not: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    never: tuple[str, ...] = ()
    save: tuple[str, ...] = ()


RULES = (
    Rule("the wire knows nothing of ours", ("proto",), only=("grpc", "google.protobuf")),
    Rule("the kit knows neither the wire nor an app", ("service_kit",), never=("proto", *APPS)),
    Rule("in the kit, Flask and its kin are web's", ("service_kit",), ("service_kit.web",), never=WEB),
    Rule("in the kit, gRPC is rpc's", ("service_kit",), ("service_kit.rpc",), never=GRPC),
    Rule("in the kit, drivers are storage's", ("service_kit",), ("service_kit.storage",), never=DRIVERS),
    Rule("the apps meet only in the wire", ("requestor_app", "wsgi_requestor"), never=("processor_app",)),
    Rule("the apps meet only in the wire", ("processor_app", "wsgi_processor"), never=("requestor_app",)),
    Rule("the domain is pure", REQUESTOR_DOMAIN, only=(*PURE_KIT, *REQUESTOR_DOMAIN), never=DRIVERS),
    Rule("the domain is pure", PROCESSOR_DOMAIN, only=(*PURE_KIT, *PROCESSOR_DOMAIN), never=DRIVERS),
    Rule("only bootstrap picks an engine", APPS, BOOTSTRAPS, never=ENGINES, save=CONTRACT),
    Rule("nobody in an app leans on bootstrap", APPS, BOOTSTRAPS, never=BOOTSTRAPS),
    Rule("only views and bootstrap speak HTTP", APPS, (*VIEWS, *BOOTSTRAPS), never=(*WEB, "service_kit.web", *VIEWS)),
    Rule("only the edge and bootstrap speak gRPC", APPS, (*EDGES, *BOOTSTRAPS), never=(*GRPC, "service_kit.rpc")),
    Rule("views see services, not the edge", VIEWS, never=(*EDGES, *BOOTSTRAPS)),
    Rule("views start no threads", VIEWS, never=THREADS),
    Rule("the start script leaves gRPC to the parts", ("wsgi_requestor", "wsgi_processor"), never=GRPC),
    Rule("the client can be copied elsewhere", ("requestor_client",), only=("requests", "urllib3")),
    Rule("a running service loads no client", APPS, COMMANDS, never=("requestor_client", "requests", *COMMANDS)),
    Rule("dev.py needs Python alone", ("dev", "devtools"), only=("devtools",)),
    Rule("the demo speaks REST alone", ("demo",), only=()),
    Rule(
        "the product runs without tests, benchmarks and demo",
        PRODUCT,
        never=("tests", "benchmarks", "demo", "dev", "devtools", "pytest"),
    ),
)


class Import(NamedTuple):
    """One imported name, absolute and in full: ``from a import b`` is ``a.b``."""

    line: int
    name: str


def is_within(name: str, roots: tuple[str, ...]) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def imports_of(source: str, module: str, *, is_package: bool = False) -> Iterator[Import]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (Import(node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=base, names=names, level=level):
                start = [*module.split("."), "__init__"] if is_package else module.split(".")
                full = ".".join([*(start[:-level] if level else []), *([base] if base else [])])
                yield from (Import(node.lineno, f"{full}.{alias.name}") for alias in names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield Import(node.lineno, name)


def breaches(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """Every import of a module that breaks a rule."""
    found = []
    for line, name in imports_of(source, module, is_package=is_package):
        for rule in RULES:
            if not is_within(module, rule.where) or is_within(module, rule.but_not):
                continue
            forbidden = is_within(name, rule.never) and not is_within(name, rule.save)
            free = name.split(".")[0] in sys.stdlib_module_names or is_within(name, rule.where)
            unlisted = rule.only is not None and not free and not is_within(name, rule.only)
            if forbidden or unlisted:
                found.append(f"{module}:{line} imports {name}: {rule.name}")
    return found


def our_files() -> list[Path]:
    in_packages = (file for name in OURS for file in (ROOT / name).rglob("*.py"))
    at_the_root = (ROOT / f"{name}.py" for name in OURS)
    return sorted([*in_packages, *(file for file in at_the_root if file.exists())])


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_every_import_keeps_the_rules() -> None:
    found = [
        breach
        for file in our_files()
        for breach in breaches(file.read_text(encoding="utf-8"), module_of(file), is_package=file.name == "__init__.py")
    ]
    assert not found, "\n" + "\n".join(found)


def test_the_rules_name_modules_that_exist() -> None:
    named = {*REQUESTOR_DOMAIN, *PROCESSOR_DOMAIN, *EDGES, *BOOTSTRAPS, *CONTRACT}
    gone = named - {module_of(file) for file in our_files()}
    assert not gone, f"moved or renamed: {sorted(gone)}"


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("proto.order_service_pb2_grpc", "import service_kit.errors"),
        ("service_kit.settings", "from proto import order_service_pb2"),
        ("service_kit.health", "import flask"),
        ("service_kit.web.problems", "import grpc"),
        ("service_kit.rpc.statuses", "from flask import Flask"),
        ("service_kit.lifecycle", "import sqlite3"),
        ("service_kit.storage.sqlite", "from requestor_app.domain import Order"),
        ("requestor_app.bootstrap", "from processor_app import domain"),
        ("processor_app.orders", "import requestor_app"),
        ("wsgi_processor", "from requestor_app import create_app"),
        ("requestor_app.domain", "import flask"),
        ("requestor_app.domain", "from service_kit.logs import get_logger"),
        ("requestor_app.domain", "from service_kit.storage.contract import Store"),
        ("requestor_app.tracking", "def f():\n    import grpc"),
        ("processor_app.domain", "from processor_app.orders import Orders"),
        ("processor_app.domain", "import sqlite3"),
        ("requestor_app.orders", "from service_kit.storage.sqlite import SqliteStore"),
        ("requestor_app.orders", "from service_kit.storage import open_store"),
        ("requestor_app.orders", "from service_kit import storage"),
        ("requestor_app.orders", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from flask import Request"),
        ("requestor_app.orders", "from importlib import import_module\nimport_module('grpc')"),
        ("requestor_app.orders", "import importlib\nimportlib.import_module('proto.order_service_pb2')"),
        ("requestor_app.orders", "from . import bootstrap"),
        ("requestor_app.orders", "from .api.orders import blueprint"),
        ("processor_app.delivery.webhook", "from ..bootstrap import build"),
        ("requestor_app.api.orders", "import threading"),
        ("requestor_app.api.orders", "from concurrent.futures import ThreadPoolExecutor"),
        ("requestor_app.api.orders", "import grpc"),
        ("requestor_app.api.orders", "from requestor_app.processor_client import ProcessorClient"),
        ("requestor_app.console.views", "import redis"),
        ("requestor_app.processor_client", "import marshmallow"),
        ("processor_app.rpc.servicer", "from service_kit.web import problems"),
        ("processor_app.rpc.servicer", "from service_kit.storage.sqlite import SqliteStore"),
        ("wsgi_requestor", "import grpc"),
        ("dev", "import requests"),
        ("devtools", "import requests"),
        ("demo.tour", "from service_kit import times"),
        ("requestor_client.client", "from service_kit import rules"),
        ("requestor_app.orders", "import requests"),
        ("requestor_app.bootstrap", "from requestor_app.commands import orders"),
        ("requestor_app.orders", "from demo import tour"),
        ("service_kit.logs", "from tests.support import clock"),
    ],
)
def test_a_breach_is_found(module: str, source: str) -> None:
    assert breaches(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("proto.order_service_pb2_grpc", "import grpc\nfrom proto import order_service_pb2"),
        ("service_kit.web.problems", "import flask\nfrom service_kit import errors"),
        ("service_kit.rpc.statuses", "import grpc"),
        ("service_kit.storage.sqlite", "import sqlite3\nimport threading"),
        ("requestor_app.domain", "import re\nfrom service_kit import errors\nfrom service_kit.change import Change"),
        ("requestor_app.tracking", "import threading\nfrom requestor_app import domain"),
        ("requestor_app.orders", "from service_kit.storage import contract\nfrom .domain import Order"),
        ("requestor_app.api.orders", "from flask import Blueprint\nfrom requestor_app.orders import Orders"),
        ("processor_app.rpc.servicer", "import grpc\nimport threading\nfrom proto import order_service_pb2"),
        ("requestor_app.bootstrap", "import grpc\nimport flask\nfrom service_kit.storage import open_store"),
    ],
)
def test_what_the_rules_allow_is_no_breach(module: str, source: str) -> None:
    assert breaches(source, module) == []


@pytest.mark.parametrize(
    ("statement", "is_package", "name"),
    [
        ("from . import x", False, "app.api.x"),
        ("from . import x", True, "app.api.orders.x"),
        ("from ..domain import x", False, "app.domain.x"),
        ("from ..domain import x", True, "app.api.domain.x"),
    ],
)
def test_relative_imports_are_resolved(statement: str, is_package: bool, name: str) -> None:
    assert [found.name for found in imports_of(statement, "app.api.orders", is_package=is_package)] == [name]


#: Imports the modules one by one and reports, for each, what it did beyond defining things.
IMPORTER = """
import importlib, json, sys, threading
happened = []
FORBIDDEN = {"socket.bind", "socket.connect", "sqlite3.connect", "subprocess.Popen", "os.fork"}
sys.addaudithook(lambda event, arguments: event in FORBIDDEN and happened.append(event))
start = threading.Thread.start
threading.Thread.start = lambda thread: (happened.append("thread"), start(thread))  # no audit event before 3.12
report = {}
import urllib3  # finds out whether there is IPv6 by a socket of its own, once and for all
for module in json.loads(sys.argv[1]):
    happened.clear()
    importlib.import_module(module)
    if happened:
        report[module] = sorted(set(happened))
print(json.dumps(report))
"""


def effects_of_importing(modules: list[str], path: Path, folder: Path) -> dict[str, list[str]]:
    """Import modules in a fresh interpreter whose current folder is ``folder``."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTER, json.dumps(modules)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(path), "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return report


def test_importing_a_module_starts_nothing(tmp_path: Path) -> None:
    assert effects_of_importing([module_of(file) for file in our_files()], ROOT, tmp_path) == {}
    assert list(tmp_path.iterdir()) == [], "a module wrote files when it was imported"


@pytest.mark.parametrize(
    ("source", "effect"),
    [
        ("import threading, time\nthreading.Thread(target=time.sleep, args=(1,), daemon=True).start()", "thread"),
        ("import socket\nlistener = socket.create_server(('127.0.0.1', 0))", "socket.bind"),
        ("import sqlite3\nconnection = sqlite3.connect(':memory:')", "sqlite3.connect"),
    ],
)
def test_a_module_that_starts_something_is_found(source: str, effect: str, tmp_path: Path) -> None:
    (tmp_path / "eager.py").write_text(source, encoding="utf-8")
    report = effects_of_importing(["json", "eager"], tmp_path, tmp_path)
    assert report == {"eager": [effect]}
