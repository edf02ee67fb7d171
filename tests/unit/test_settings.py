from __future__ import annotations

from dataclasses import dataclass

import pytest

from service_kit.errors import StartRefused
from service_kit.settings import (
    choice,
    comma_list,
    describe_settings,
    flag,
    host_name,
    integer,
    load_settings,
    milliseconds,
    port_number,
    seconds,
    setting,
    text,
    unknown_variables,
    url,
)


@dataclass(frozen=True, slots=True)
class Settings:
    host: str = setting("127.0.0.1", parse=host_name(), help="The address to listen on.")
    port: int = setting(8004, parse=port_number(), help="The port to listen on.")
    lease_s: float = setting(15.0, parse=seconds(), help="How long a lease lasts.")
    peers: tuple[str, ...] = setting(("a:1", "b:2"), parse=comma_list(), help="The others.")
    log_format: str = setting("console", parse=choice("console", "json"), help="The form of the logs.")
    smtp_url: str | None = setting(None, parse=url("smtp", "smtps", example="smtp://mail:25"), help="The mail server.")
    password: str = setting("", parse=text(), help="The password.", secret=True)


def load(**variables: str) -> Settings:
    return load_settings(Settings, "APP", variables)


def test_without_variables_the_defaults_hold():
    assert load() == Settings()
    assert load().port == 8004


def test_each_field_is_read_from_its_variable():
    settings = load(APP_HOST="0.0.0.0", APP_PORT="0", APP_LEASE_S="2.5", APP_PEERS="x:1, y:2", APP_LOG_FORMAT="JSON")
    assert (settings.host, settings.port, settings.lease_s) == ("0.0.0.0", 0, 2.5)
    assert (settings.peers, settings.log_format) == (("x:1", "y:2"), "json")


def test_an_empty_variable_counts_as_not_set():
    assert load(APP_PORT="", APP_SMTP_URL="  ") == Settings()


def test_every_fault_is_reported_in_one_line_with_rule_and_example():
    with pytest.raises(StartRefused) as refused:
        load(APP_PORT="http", APP_LEASE_S="-1", APP_LOG_FORMAT="xml")
    line = str(refused.value)
    assert "APP_PORT must be a port from 1 to 65535 (or 0 for any free one), such as 8004" in line
    assert "APP_LEASE_S must be a number of seconds" in line
    assert "APP_LOG_FORMAT must be one of console, json, such as console" in line
    assert "\n" not in line


def test_a_fault_never_repeats_the_text_of_the_variable():
    with pytest.raises(StartRefused) as refused:
        load(APP_SMTP_URL="http://user:hunter2@mail")
    assert "hunter2" not in str(refused.value)


def test_a_secret_is_not_in_the_representation():
    assert "hunter2" not in repr(load(APP_PASSWORD="hunter2"))
    assert load(APP_PASSWORD="hunter2").password == "hunter2"


def test_a_misspelt_variable_is_named_with_its_likely_meaning_and_others_are_left_alone():
    environ = {"APP_PROT": "1", "APP_PORT": "1", "APPLE_PORT": "1", "PATH": "/bin"}
    assert unknown_variables(Settings, "APP", environ) == (
        "APP_PROT is not a setting and has no effect; did you mean APP_PORT?",
    )
    assert load(**environ).port == 1


def test_the_description_has_a_row_for_each_field():
    rows = describe_settings(Settings, "APP")
    assert [row.variable for row in rows][:3] == ["APP_HOST", "APP_PORT", "APP_LEASE_S"]
    defaults = {row.variable: row.default for row in rows}
    assert defaults["APP_LEASE_S"] == "15"
    assert defaults["APP_PEERS"] == "a:1,b:2"
    assert defaults["APP_SMTP_URL"] == defaults["APP_PASSWORD"] == "unset"
    assert all(row.help.endswith(".") for row in rows)


@pytest.mark.parametrize(
    ("parser", "raw", "value"),
    [
        (text(), "abc", "abc"),
        (integer(-5, 5), "-5", -5),
        (port_number(), "65535", 65535),
        (milliseconds(), "1500", 1500),
        (seconds(), "0.5", 0.5),
        (flag(), "ON", True),
        (flag(), "0", False),
        (host_name(), "::1", "::1"),
        (host_name(), "processor-1.example.com", "processor-1.example.com"),
        (comma_list(), "a", ("a",)),
        (url("redis", "rediss", example="redis://localhost"), "redis://:pw@host:6379/0", "redis://:pw@host:6379/0"),
        (url("sqlite", example="sqlite:///a.db", needs_host=False), "sqlite:///data/a.db", "sqlite:///data/a.db"),
    ],
)
def test_a_parser_takes_what_fits(parser, raw, value):
    assert parser.read(raw) == value


@pytest.mark.parametrize(
    ("parser", "raw"),
    [
        (integer(1, 5), "6"),
        (integer(1, 5), "1_0"),
        (integer(1, 5), "٣"),
        (integer(1, 5), "2.0"),
        (port_number(), "65536"),
        (port_number(), "-1"),
        (milliseconds(), "0"),
        (milliseconds(), "1.5"),
        (seconds(), "0"),
        (seconds(), "nan"),
        (seconds(), "inf"),
        (seconds(), "10s"),
        (choice("a", "b"), "c"),
        (flag(), "maybe"),
        (host_name(), "host:80"),
        (host_name(), "a b"),
        (host_name(), "http://host"),
        (comma_list(), "a,,b"),
        (comma_list(), ","),
        (comma_list(), "user:password@a:1"),
        (url("http", example="http://a"), "ftp://a"),
        (url("http", example="http://a"), "http://"),
        (url("http", example="http://a"), "http://a:99999"),
        (url("http", example="http://a"), "http://a/b c"),
        (url("http", example="http://a"), "http://[::1"),
    ],
)
def test_a_parser_refuses_what_does_not_fit(parser, raw):
    with pytest.raises(ValueError):  # noqa: PT011 - the rule of the parser tells what is wrong, not the error
        parser.read(raw)


@pytest.mark.parametrize(
    "parser", [integer(3, 9), port_number(), milliseconds(), seconds(), choice("a"), flag(), host_name(), comma_list()]
)
def test_the_example_of_a_parser_is_a_good_value(parser):
    parser.read(parser.example)


def test_a_url_with_a_login_is_in_no_repr() -> None:
    from requestor_app.settings import RequestorSettings  # noqa: PLC0415 # the one test that is about a service's own

    assert "s3cret" not in repr(RequestorSettings(store="redis://user:s3cret@example.com/0"))
