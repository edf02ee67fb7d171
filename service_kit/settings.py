"""Settings: read once from the environment into a frozen dataclass, every fault reported together.

A service declares its settings as a dataclass; the variable of a field is the service's prefix and its name::

    @dataclass(frozen=True, slots=True)
    class Settings:
        port: int = setting(8004, parse=port_number(), help="The port of the REST interface.")

    settings = load_settings(Settings, "REQUESTOR")     # reads REQUESTOR_PORT
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

from service_kit.errors import StartRefused

T = TypeVar("T")
D = TypeVar("D")

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]{2,45}")
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")
_LOGIN = re.compile(r"://[^/@\s]*@")


@dataclasses.dataclass(frozen=True, slots=True)
class Parser(Generic[T]):
    """How to read a variable: ``read`` raises `ValueError` when the text breaks the ``rule``."""

    read: Callable[[str], T]
    rule: str
    example: str


class SettingValue(NamedTuple):
    """One setting as an environment has it, for people: a secret is never in it."""

    variable: str
    value: str
    source: str
    #: What is wrong with the variable's text, or None; then the default stands for it.
    fault: str | None


class SettingRow(NamedTuple):
    """One setting as the documentation shows it."""

    variable: str
    default: str
    help: str


def text() -> Parser[str]:
    """Any text."""
    return Parser(str, "must be a text", "abc")


def integer(lowest: int, highest: int, example: int | None = None) -> Parser[int]:
    """A whole number within both bounds."""

    def read(raw: str) -> int:
        if not _WHOLE_NUMBER.fullmatch(raw) or not lowest <= int(raw) <= highest:
            raise ValueError
        return int(raw)

    shown = example if example is not None else lowest
    return Parser(read, f"must be a whole number from {lowest} to {highest}", str(shown))


def port_number() -> Parser[int]:
    """A TCP port; 0 means any free one."""
    return dataclasses.replace(integer(0, 65535, 8004), rule="must be a port from 1 to 65535 (or 0 for any free one)")


def milliseconds(lowest: int = 1, highest: int = 86_400_000) -> Parser[int]:
    """A span of time as a whole number of milliseconds."""
    return integer(lowest, highest, max(lowest, min(highest, 1000)))


def seconds(lowest: float = 0.001, highest: float = 10 * 366 * 86_400.0) -> Parser[float]:
    """A positive span of time in seconds; fractions are fine."""

    def read(raw: str) -> float:
        value = float(raw)
        if not math.isfinite(value) or not lowest <= value <= highest:
            raise ValueError
        return value

    shown = max(lowest, min(highest, 15.0))
    return Parser(read, f"must be a number of seconds from {lowest:g} to {highest:g}", f"{shown:g}")


def seconds_list(longest: int, lowest: float = 0.001, highest: float = 366 * 86_400.0) -> Parser[tuple[float, ...]]:
    """One or more spans of time in seconds with commas between them."""
    one = seconds(lowest, highest)

    def read(raw: str) -> tuple[float, ...]:
        spans = tuple(one.read(item) for item in raw.split(","))
        if len(spans) > longest:
            raise ValueError
        return spans

    rule = f"must be a list with commas of 1 to {longest} numbers of seconds from {lowest:g} to {highest:g}"
    return Parser(read, rule, "5,300,1800")


def choice(*allowed: str) -> Parser[str]:
    """One of the given words, whatever its case."""
    by_lower_case = {word.lower(): word for word in allowed}

    def read(raw: str) -> str:
        try:
            return by_lower_case[raw.lower()]
        except KeyError:
            raise ValueError from None

    return Parser(read, "must be one of " + ", ".join(allowed), allowed[0])


def flag() -> Parser[bool]:
    """On or off."""
    words = {"on": True, "true": True, "1": True, "yes": True, "off": False, "false": False, "0": False, "no": False}

    def read(raw: str) -> bool:
        try:
            return words[raw.lower()]
        except KeyError:
            raise ValueError from None

    return Parser(read, "must be on or off", "on")


def host_name() -> Parser[str]:
    """The name or the address of a host, without a port."""

    def read(raw: str) -> str:
        if not _HOST_NAME.fullmatch(raw) and not (":" in raw and _IPV6.fullmatch(raw)):
            raise ValueError
        return raw

    return Parser(read, "must be a host name or an IP address, without a port", "127.0.0.1")


def comma_list(example: str = "a,b") -> Parser[tuple[str, ...]]:
    """One or more texts with commas between them; an address with a login is none, since it would be shown."""

    def read(raw: str) -> tuple[str, ...]:
        items = tuple(item.strip() for item in raw.split(","))
        if not all(items) or "@" in raw:
            raise ValueError
        return items

    return Parser(read, "must be a list with commas, without empty items and without logins", example)


def url(*schemes: str, example: str, needs_host: bool = True) -> Parser[str]:
    """A URL of one of the given schemes. A store in a file has no host: ``needs_host=False``."""

    def read(raw: str) -> str:
        parts = urlsplit(raw)
        # Asking for the port is what makes urlsplit check it.
        if parts.scheme not in schemes or (needs_host and not parts.hostname) or parts.port == 0:
            raise ValueError
        if any(character.isspace() or not character.isprintable() for character in raw):
            raise ValueError
        return raw

    return Parser(read, "must be a URL that begins with " + " or ".join(f"{scheme}://" for scheme in schemes), example)


def setting(default: D, *, parse: Parser[T], help: str, secret: bool = False, may_hold_login: bool = False) -> D | T:
    """Declare a field of a settings dataclass; ``help`` is one sentence, a secret is shown nowhere.

    A URL that ``may_hold_login`` is shown with its login masked, and not at all where nobody masks it.
    """
    metadata = {"parser": parse, "help": help, "secret": secret}
    is_shown = not (secret or may_hold_login)
    return cast("D | T", dataclasses.field(default=default, repr=is_shown, metadata=metadata))


def load_settings(cls: type[T], prefix: str, environ: Mapping[str, str] = os.environ) -> T:
    """Read the settings of a service; raises one `StartRefused` that names every fault.

    A variable that is empty counts as not set. Texts of variables are never repeated: they may hold passwords.
    """
    values, faults = _read(cls, prefix, environ)
    if faults:
        raise StartRefused("Settings are not valid: " + "; ".join(faults.values()))
    return cls(**values)


def load_valid_settings(cls: type[T], prefix: str, environ: Mapping[str, str] = os.environ) -> T:
    """The settings as far as they are valid, for tools that look at what is wrong; defaults stand for the others."""
    return cls(**_read(cls, prefix, environ)[0])


def _read(cls: type[Any], prefix: str, environ: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The values of the fields that are set, and what is wrong with the variables of others."""
    values: dict[str, Any] = {}
    faults: dict[str, str] = {}
    for field in dataclasses.fields(cls):
        variable = variable_of(prefix, field.name)
        raw = environ.get(variable, "").strip()
        if not raw:
            continue
        parser: Parser[Any] = field.metadata["parser"]
        try:
            values[field.name] = parser.read(raw)
        except ValueError:
            faults[variable] = f"{variable} {parser.rule}, such as {parser.example}"
    return values, faults


def settings_in_use(cls: type[Any], prefix: str, environ: Mapping[str, str] = os.environ) -> tuple[SettingValue, ...]:
    """Each setting with its value and where that comes from; secrets and passwords in URLs are hidden."""
    _, faults = _read(cls, prefix, environ)
    rows = []
    for field in _in_order(cls):
        variable = variable_of(prefix, field.name)
        raw = environ.get(variable, "").strip()
        shown = ("hidden" if field.metadata["secret"] else _LOGIN.sub("://***@", raw)) if raw else _shown(field.default)
        source = "environment" if raw else "default"
        # A text that cannot be read may be anything, a password in the wrong place too.
        fault = faults.get(variable)
        rows.append(SettingValue(variable, "hidden" if fault else shown, source, fault))
    return tuple(rows)


def unknown_variables(cls: type[Any], prefix: str, environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """A sentence for each variable that has the prefix but is no setting: most likely a typing mistake."""
    known = {variable_of(prefix, field.name) for field in dataclasses.fields(cls)}
    sentences = []
    for variable in sorted(environ):
        if variable.startswith(f"{prefix}_") and variable not in known:
            likely = difflib.get_close_matches(variable, known, n=1)
            hint = f"; did you mean {likely[0]}?" if likely else ""
            sentences.append(f"{variable} is not a setting and has no effect{hint}")
    return tuple(sentences)


def describe_settings(cls: type[Any], prefix: str) -> tuple[SettingRow, ...]:
    """One row for each setting, in the order of declaration; those that services share come last."""
    return tuple(
        SettingRow(variable_of(prefix, field.name), _shown(field.default), field.metadata["help"])
        for field in _in_order(cls)
    )


def _in_order(cls: type[Any]) -> list[dataclasses.Field[Any]]:
    """The fields of a service, its own before those that it shares with others."""
    return sorted(dataclasses.fields(cls), key=lambda field: field.name not in cls.__annotations__)


def variable_of(prefix: str, field_name: str) -> str:
    """The name of the environment variable of a field."""
    return f"{prefix}_{field_name.upper()}"


def _shown(default: object) -> str:
    if default in (None, "", ()):
        return "unset"
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, tuple):
        return ",".join(_shown(item) for item in default)
    return f"{default:.15g}" if isinstance(default, float) else str(default)
