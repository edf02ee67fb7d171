"""The product runs on Linux, macOS and Windows: what only some systems have stands behind a guard.

A guard is a look at ``sys.platform`` or ``os.name``, a ``hasattr``, an ``except ImportError`` or ``AttributeError``,
or ``getattr(signal, "SIGBREAK", None)``, which needs no guard at all. Text files name their encoding, because the
default differs between the systems.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLACES = (
    "service_kit/**/*.py",
    "requestor_app/**/*.py",
    "processor_app/**/*.py",
    "requestor_client/**/*.py",
    "wsgi_*.py",
    "dev.py",
    "devtools/**/*.py",
    "demo/**/*.py",
)

#: Names that are missing on some system; a name stands for all that is below it. Windows' own are here as well.
NOT_EVERYWHERE = frozenset(
    [
        *("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"),
        *("_winapi", "msvcrt", "winreg", "winsound"),
        *("os.chown", "os.fchmod", "os.fdatasync", "os.fork", "os.forkpty", "os.mkfifo", "os.posix_fadvise"),
        *("os.getegid", "os.geteuid", "os.getgid", "os.getgroups", "os.getloadavg", "os.getpgid", "os.getuid"),
        *("os.killpg", "os.posix_spawn", "os.pread", "os.pwrite", "os.sched_getaffinity", "os.sendfile"),
        *("os.setgid", "os.setpgid", "os.setsid", "os.setuid", "os.startfile", "os.statvfs", "os.sync"),
        *("os.sysconf", "os.uname", "os.wait", "os.waitid", "os.O_DIRECTORY", "os.O_BINARY", "os.O_CLOEXEC"),
        *("select.epoll", "select.kqueue", "select.poll", "shutil.chown", "socket.AF_UNIX", "socket.SO_REUSEPORT"),
        *("signal.CTRL_BREAK_EVENT", "signal.CTRL_C_EVENT", "signal.SIGBREAK", "signal.SIGALRM", "signal.SIGCHLD"),
        *("signal.SIGCONT", "signal.SIGHUP", "signal.SIGKILL", "signal.SIGPIPE", "signal.SIGQUIT", "signal.SIGSTOP"),
        *("signal.SIGUSR1", "signal.SIGUSR2", "signal.alarm", "signal.pause", "signal.pthread_kill"),
        *("signal.pthread_sigmask", "signal.setitimer", "signal.sigtimedwait", "signal.sigwait"),
        *("subprocess.CREATE_NEW_PROCESS_GROUP", "subprocess.STARTUPINFO", "time.tzset", "time.clock_gettime"),
    ]
)
#: Names that are there everywhere, but do not do the same.
NOT_THE_SAME = {
    "os.path": "use pathlib",
    "os.rename": "does not replace on Windows: use os.replace",
    "os.sep": "use pathlib",
}
SYSTEM_FOLDER = re.compile(r"^/(tmp|var|etc|dev|proc|sys|usr|run)(/|$)")
DRIVE = re.compile(r"^[A-Za-z]:\\")
TEXT_METHODS = ("read_text", "write_text")
OPEN_MODE = re.compile(r"^[rwaxbt+]{1,4}$")


class Finding(NamedTuple):
    """Something that is not portable, and where."""

    line: int
    text: str


class Portability(ast.NodeVisitor):
    """Collects what is not portable in a module."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self._aliases: dict[str, str] = {}
        self._guards = 0
        self._knows_sigbreak = False
        self._sigterm_lines: list[int] = []

    def check(self, tree: ast.Module) -> list[Finding]:
        """Everything found in a module."""
        self._statements(tree.body)
        if not self._knows_sigbreak:
            self._add(self._sigterm_lines, "SIGTERM never comes on Windows: handle SIGBREAK too")
        return sorted(set(self.findings))

    # ---- guards

    def _statements(self, body: Iterable[ast.stmt]) -> None:
        """Visit a block. A guard that leaves the block guards what comes after it."""
        opened = 0
        for statement in body:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                continue  # a docstring may talk about anything
            self.visit(statement)
            match statement:
                case ast.Assert(test=test) | ast.If(test=test, body=[*_, ast.Return() | ast.Raise() | ast.Continue()]):
                    self._guards += is_guard(test)
                    opened += is_guard(test)
        self._guards -= opened

    def _guarded(self, body: Iterable[ast.stmt], *, guarded: bool) -> None:
        self._guards += guarded
        self._statements(body)
        self._guards -= guarded

    def generic_visit(self, node: ast.AST) -> None:
        for _, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                self._statements(value)
            elif isinstance(value, list):
                for item in value:
                    if isinstance(item, ast.AST):
                        self.visit(item)
            elif isinstance(value, ast.AST):
                self.visit(value)

    def visit_If(self, node: ast.If) -> None:
        guarded = is_guard(node.test)
        self.visit(node.test)
        self._guarded(node.body, guarded=guarded)
        self._guarded(node.orelse, guarded=guarded)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        guarded = is_guard(node.test)
        self._guards += guarded
        self.generic_visit(node)
        self._guards -= guarded

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        guarded = is_guard(node.values[0])
        self._guards += guarded
        self.generic_visit(node)
        self._guards -= guarded

    def visit_Try(self, node: ast.Try) -> None:
        caught = {
            name.id
            for handler in node.handlers
            for name in ast.walk(handler.type or ast.Name(id=""))
            if isinstance(name, ast.Name)
        }
        self._guarded(node.body, guarded=bool(caught & {"ImportError", "ModuleNotFoundError", "AttributeError"}))
        for rest in (*node.handlers, *node.orelse, *node.finalbody):
            self.visit(rest)

    # ---- names

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            top = alias.name.split(".")[0]
            self._aliases[alias.asname or top] = alias.name if alias.asname else top
            self._name(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level:
            return
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            self._aliases[alias.asname or alias.name] = full
            self._name(node, full)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if full := self._full_name(node):
            self._name(node, full)
        else:
            self.generic_visit(node)

    def _full_name(self, node: ast.expr) -> str:
        """The dotted name of an imported thing, under whatever name it was imported; "" for anything else."""
        match node:
            case ast.Name(id=name):
                return self._aliases.get(name, "")
            case ast.Attribute(value=value, attr=attr):
                base = self._full_name(value)
                return f"{base}.{attr}" if base else ""
        return ""

    def _name(self, node: ast.AST, full: str) -> None:
        line: int = getattr(node, "lineno", 0)
        prefixes = [full[:place] for place in range(len(full) + 1) if full[place : place + 1] in {"", "."}]
        for name in prefixes:
            if name in NOT_EVERYWHERE:
                self._add([line], f"{name} is not there on every system")
            if name in NOT_THE_SAME:
                self._add([line], f"{name}: {NOT_THE_SAME[name]}")
        if full == "signal.SIGTERM":
            self._sigterm_lines.append(line)
        if full == "signal.SIGBREAK":
            self._knows_sigbreak = True

    # ---- texts and calls

    def visit_Constant(self, node: ast.Constant) -> None:
        if node.value == "SIGBREAK":
            self._knows_sigbreak = True
        if isinstance(node.value, str) and (SYSTEM_FOLDER.match(node.value) or DRIVE.match(node.value)):
            self._add([node.lineno], f"{node.value!r} is a path of one system")

    def visit_Call(self, node: ast.Call) -> None:
        full = self._full_name(node.func)
        if opens_text(node, full):
            self._add([node.lineno], f"{ast.unparse(node.func)}() names no encoding")
        if forks(node, full):
            self._add([node.lineno], f"{ast.unparse(node.func)}() asks for fork")
        self.generic_visit(node)

    def _add(self, lines: Iterable[int], text: str) -> None:
        if not self._guards:
            self.findings += [Finding(line, text) for line in lines]


def is_guard(test: ast.expr) -> bool:
    """A condition that asks which system this is, or what it has."""
    for node in ast.walk(test):
        match node:
            case ast.Attribute(value=ast.Name(id="sys"), attr="platform"):
                return True
            case ast.Attribute(value=ast.Name(id="os"), attr="name"):
                return True
            case ast.Call(func=ast.Name(id="hasattr")):
                return True
            case ast.Call(func=ast.Attribute(value=ast.Name(id="platform"), attr="system")):
                return True
    return False


def opens_text(call: ast.Call, full: str) -> bool:
    """The call reads or writes text and leaves the encoding to the system."""
    keywords = {keyword.arg for keyword in call.keywords}
    if keywords & {"encoding", None}:
        return False
    modes = [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
    modes += [word.value.value for word in call.keywords if word.arg == "mode" and isinstance(word.value, ast.Constant)]
    binary = any(isinstance(mode, str) and OPEN_MODE.match(mode) and "b" in mode for mode in modes)
    match call.func:
        case ast.Name(id="open"):
            return not binary
        case ast.Attribute(attr="open") if not full:
            # Of the many things with an open(), a file is the one that takes a mode first, or nothing.
            first = call.args[0] if call.args else None
            is_file = first is None or (isinstance(first, ast.Constant) and OPEN_MODE.match(str(first.value)))
            return bool(is_file) and not keywords - {"mode", "newline", "errors"} and not binary
        case ast.Attribute(attr=method) if method in TEXT_METHODS:
            # Both take the encoding as the last positional argument too.
            return len(call.args) < 1 + (method == "write_text")
    if full in {"io.open", "os.fdopen", "io.TextIOWrapper", "logging.FileHandler"}:
        return not binary
    return full.startswith("subprocess.") and bool(keywords & {"text", "universal_newlines"})


def forks(call: ast.Call, full: str) -> bool:
    """The call asks multiprocessing for the start method that Windows lacks."""
    asked = [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
    return full.startswith("multiprocessing.") and bool({"fork", "forkserver"} & {str(value) for value in asked})


def findings(source: str) -> list[Finding]:
    return Portability().check(ast.parse(source))


def our_files() -> Iterator[Path]:
    for place in PLACES:
        yield from sorted(ROOT.glob(place))


def test_the_code_is_portable() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line} {text}"
        for file in our_files()
        for line, text in findings(file.read_text(encoding="utf-8"))
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "import fcntl",
        "from pwd import getpwnam",
        "def f():\n    import resource",
        "import msvcrt",
        "import os\nos.fork()",
        "import os\nos.getuid()",
        "import os as system\nsystem.setsid()",
        "from os import fork",
        "import signal\nsignal.signal(signal.SIGHUP, print)",
        "import signal\nchild.send_signal(signal.SIGKILL)",
        "from signal import SIGKILL",
        "import signal\nsignal.signal(signal.SIGTERM, print)",
        "import signal\nchild.send_signal(signal.CTRL_BREAK_EVENT)",
        "import multiprocessing\nmultiprocessing.get_context('fork')",
        "from multiprocessing import set_start_method\nset_start_method('fork')",
        "folder = '/tmp/orders'",
        "folder = '/dev/shm'",
        "folder = 'C:\\\\orders'",
        "import os\nos.path.join('a', 'b')",
        "import os.path",
        "from os import path",
        "import os\nos.rename('a', 'b')",
        "import socket\nsocket.SO_REUSEPORT",
        "open('file')",
        "open('file', 'w')",
        "open('file', mode='a')",
        "path.open()",
        "path.open('w')",
        "path.read_text()",
        "path.write_text('text')",
        "import subprocess\nsubprocess.run(['a'], text=True)",
        "import sys\nif sys.platform == 'win32':\n    pass\nimport fcntl",
        "try:\n    import fcntl\nexcept OSError:\n    pass",
        "if ready:\n    import fcntl",
        "import sys\ndef f():\n    if sys.platform == 'win32':\n        return\nimport fcntl",
    ],
)
def test_what_is_not_portable_is_found(source: str) -> None:
    assert findings(source)


@pytest.mark.parametrize(
    "source",
    [
        "import sys\nif sys.platform != 'win32':\n    import fcntl",
        "import os\nif os.name == 'posix':\n    os.getuid()",
        "import sys\nif sys.platform == 'win32':\n    import msvcrt\nelse:\n    import fcntl",
        "import os\nif hasattr(os, 'getuid') and os.getuid() == 0:\n    pass",
        "import os\nuser = os.getuid() if hasattr(os, 'getuid') else 0",
        "import sys\ndef f():\n    if sys.platform == 'win32':\n        return\n    import fcntl",
        "import sys\nassert sys.platform != 'win32'\nimport fcntl",
        "try:\n    import fcntl\nexcept ImportError:\n    fcntl = None",
        "import signal\nhangup = getattr(signal, 'SIGHUP', None)",
        "import signal\nfor name in ('SIGINT', 'SIGTERM', 'SIGBREAK'):\n    getattr(signal, name, None)",
        "import signal\nwanted = [signal.SIGTERM, getattr(signal, 'SIGBREAK', None)]",
        "import multiprocessing\nmultiprocessing.get_context('spawn')",
        "'''Writes to /tmp never.'''",
        "route = '/api/v1/orders'",
        "open('file', 'rb')",
        "open('file', encoding='utf-8')",
        "path.open('ab')",
        "path.open(encoding='utf-8')",
        "path.read_text('utf-8')",
        "path.write_text('text', encoding='utf-8')",
        "opener.open(url, timeout=2)",
        "breaker.open(reason)",
        "import subprocess\nsubprocess.run(['a'], text=True, encoding='utf-8')",
    ],
)
def test_what_is_portable_is_let_be(source: str) -> None:
    assert findings(source) == []
