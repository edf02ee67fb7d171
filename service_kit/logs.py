"""Logs: one line for each fact, for a person (console) or for a machine (json), through structlog.

Every line is a sentence and keys, among them ``action``, a stable word to search for::

    log = get_logger(__name__)
    log.info("Added order TEST001 to tracking list", action="order.tracked", order_req_id="TEST001")

Keys that are bound with `bind_log_context` stand on every line of the same thread. The renderers are our own, because
log lines stand on the path of every order, and they are faster than structlog's. No value can forge a line or steer a
terminal, secrets are masked (by the names of their keys, and by their looks in `service_kit.masking`), and a log call
never raises.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, MutableMapping
from contextvars import ContextVar, Token
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TextIO, TypeAlias, cast

import structlog

from service_kit.log_output import LogOutput, LogWriter
from service_kit.masking import masked
from service_kit.times import now_ms, rfc3339

Logger: TypeAlias = structlog.typing.FilteringBoundLogger

_context: ContextVar[Mapping[str, object]] = ContextVar("log_context", default=MappingProxyType({}))

_SECRET_KEY = re.compile(r"passw|secret|token|authorization|cookie|credential|signature|api_?key", re.IGNORECASE)
_MASK = "***"
#: Levels whose lines may wait a moment.
_PLAIN = ("debug", "info")
_LEVEL_COLUMN = {"debug": "DEBUG", "info": "INFO ", "warning": "WARN ", "error": "ERROR", "critical": "FATAL"}
_LEVELS_OF_LIBRARIES = {10: "debug", 20: "info", 30: "warning", 40: "error", 50: "critical"}
_PLAIN_VALUE: Callable[[Any], object] = re.compile(r"[A-Za-z0-9!#$%&()*+,./:;<>?@\[\]^_`{|}~-]+").fullmatch


def get_logger(name: str) -> Logger:
    """The logger of a module; it may be made before `configure_logs`."""
    return cast("Logger", structlog.get_logger(name))


def bind_log_context(**keys: object) -> Token[Mapping[str, object]]:
    """Put these keys on every line of this thread; `unbind_log_context` takes them away by what this answers."""
    return _context.set({**_context.get(), **keys})


def unbind_log_context(bound: Token[Mapping[str, object]]) -> None:
    """Undo one `bind_log_context`."""
    _context.reset(bound)


def configure_logs(
    format: str = "console", level: str = "info", stream: TextIO | None = None, service: str = ""
) -> None:
    """Send all logs of this process, those of libraries too, to one stream (by default stderr) in one format.

    Call it once, first thing: a logger keeps the level that held when it wrote its first line.
    """
    _output.use(stream if stream is not None else sys.stderr)
    renderer: _Renderer = _JsonRenderer(service) if format == "json" else _ConsoleRenderer()
    # In place: loggers that are in use already hold this very list.
    _processors[:] = [renderer]
    structlog.configure(
        processors=_processors,
        wrapper_class=type("_Logger", (_WithoutDetours, structlog.make_filtering_bound_logger(level)), {}),
        logger_factory=lambda *_: None,
        cache_logger_on_first_use=True,
    )
    _configure_library_logs(renderer, level)


def log_writer() -> LogWriter:
    """A component that takes the writing of plain lines from the threads that log them."""
    return LogWriter(_output)


def lost_lines() -> int:
    """How many lines could not be written."""
    return _output.lost_lines


class _WithoutDetours(structlog.BoundLoggerBase):
    """Renders and writes at once: there is one processor, and structlog's way through a list takes longer than it."""

    def _proxy_to_logger(self, method_name: str, event: str | None = None, *_: object, **keys: Any) -> None:
        keys["event"] = event
        for renderer in self._processors:
            try:
                line = renderer(None, method_name, {**self._context, **keys} if self._context else keys)
            except structlog.DropEvent:  # by what a test put in the renderer's place
                return
            _output.put(cast("str", line), is_urgent=method_name not in _PLAIN)


_output = LogOutput()
_processors: list[Any] = []


class _Renderer(ABC):
    """Turns the keys of one log call into one line."""

    def __call__(self, _logger: object, method: str, event: MutableMapping[str, Any]) -> str:
        ts = rfc3339(now_ms())
        message = _text(event.pop("event", ""))
        trace = _trace(event.pop("exc_info")) if "exc_info" in event else ""
        for key, value in _context.get().items():
            event.setdefault(key, value)
        return masked(self.render(ts, method, message, event, trace))

    @abstractmethod
    def render(self, ts: str, level: str, message: str, keys: MutableMapping[str, Any], trace: str) -> str:
        """The line, with its line end."""


class _ConsoleRenderer(_Renderer):
    """``2026-11-23T12:00:00.123Z INFO  Added order TEST001 …  action=order.tracked order_req_id=TEST001``."""

    def render(self, ts: str, level: str, message: str, keys: MutableMapping[str, Any], trace: str) -> str:
        line = f"{ts} {_LEVEL_COLUMN[level]} {_escaped(message)}"
        pairs = [_console_pair(key, value) for key, value in keys.items()]
        if pairs:
            line = f"{line}  {' '.join(pairs)}"
        if not trace:
            return line + "\n"
        # The bar in front of each row keeps the text of an exception from looking like a line of the log.
        return line + "\n" + "".join([f"    | {_escaped(row)}\n" for row in trace.splitlines()])


class _JsonRenderer(_Renderer):
    """One JSON object for each line: ts, level, service, message, action and all other keys."""

    def __init__(self, service: str) -> None:
        self._service = service

    def render(self, ts: str, level: str, message: str, keys: MutableMapping[str, Any], trace: str) -> str:
        line: dict[str, Any] = {"ts": ts, "level": level, "service": self._service, "message": message}
        for key, value in keys.items():
            line[f"{key}_" if key in line else key] = _shown(key, value)
        if trace:
            line["exception"] = trace
        return _json(line) + "\n"


def _configure_library_logs(renderer: _Renderer, level: str) -> None:
    """Send what libraries log with the standard library through the same renderer and stream."""
    root = logging.getLogger()
    root.handlers[:] = [_LibraryHandler(renderer)]
    # "debug" means our own lines: those of libraries would drown them.
    root.setLevel(max(logging.INFO, logging.getLevelNamesMapping()[level.upper()]))
    # Waitress warns for each request that has to wait, which at load is most of the log; the depth is a metric.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)


class _LibraryHandler(logging.Handler):
    """Hands the records of the standard library to our renderer."""

    def __init__(self, renderer: _Renderer) -> None:
        super().__init__()
        self._renderer = renderer

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; a record that cannot be formatted is shown unformatted."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - wrong arguments of a library's log call must not hide what it says
            message = _text(record.msg)
        event = {"event": message, "action": "library", "logger": record.name, "exc_info": record.exc_info}
        level = _LEVELS_OF_LIBRARIES.get(record.levelno // 10 * 10, "info")
        _output.put(self._renderer(None, level, event), is_urgent=level not in _PLAIN)


@lru_cache(maxsize=1024)
def _is_secret_key(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def _shown(key: str, value: object, depth: int = 0) -> object:
    """The value as a log may show it, secrets within it masked."""
    kind = type(value)
    # Only texts: the number under the key "token" is the fencing number of a claim, and no secret.
    if kind is str or kind is bytes:
        return _MASK if _is_secret_key(key) else value
    if kind is dict:
        # The depth ends circles.
        items = cast("dict[object, object]", value).items()
        return {str(name): _shown(str(name), inner, depth + 1) for name, inner in items} if depth < 8 else "..."
    return value


def _console_pair(key: str, value: object) -> str:
    kind = type(value)
    if kind is int or (kind is str and not _is_secret_key(key) and _PLAIN_VALUE(value)):
        return f"{key}={value}"
    value = _shown(key, value)
    if not isinstance(value, str):
        value = _json(value) if isinstance(value, dict | list | tuple) else _text(value)
    if _PLAIN_VALUE(value):
        return f"{key}={value}"
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{key}="{_escaped(quoted)}"'


def _escaped(text: str) -> str:
    """The text with everything that is not printable (line ends, terminal codes, direction marks) escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - any __str__ may be broken
        return f"<{type(value).__name__} that cannot be shown>"


def _trace(exc_info: Any) -> str:
    if not exc_info:
        return ""
    if isinstance(exc_info, BaseException):
        error: BaseException | None = exc_info
    else:
        error = exc_info[1] if isinstance(exc_info, tuple) else sys.exc_info()[1]
    return "" if error is None else "".join(traceback.format_exception(error)).rstrip()


# ASCII only: every console shows it, and every control character and line separator comes out escaped.
_encode_json: Callable[[object], str] = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=_text).encode


def _json(value: object) -> str:
    try:
        return _encode_json(value)
    except (TypeError, ValueError, RecursionError):
        # Not a number, or a circle. Part by part, so that the rest of the line stays what it is.
        if isinstance(value, dict):
            return "{" + ",".join(f"{_encode_json(_text(key))}:{_json(inner)}" for key, inner in value.items()) + "}"
        return _encode_json(_text(value))
