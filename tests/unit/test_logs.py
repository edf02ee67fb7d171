from __future__ import annotations

import io
import json
import logging
import re
import sys
import threading

import pytest

from service_kit.logs import bind_log_context, configure_logs, get_logger, unbind_log_context

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture(autouse=True)
def _restore_logging():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    configure_logs(stream=io.StringIO())


@pytest.fixture(params=["console", "json"])
def log_format(request) -> str:
    return request.param


def lines_of(log_format: str, write, level: str = "info") -> list[str]:
    stream = io.StringIO()
    configure_logs(log_format, level, stream=stream, service="requestor")
    # A logger of its own for each call: a logger keeps the level of its first line.
    write(get_logger("test"))
    return stream.getvalue().splitlines()


def test_a_console_line_has_time_level_sentence_and_keys():
    (line,) = lines_of(
        "console",
        lambda log: log.info("Added order TEST001 to tracking list", action="order.tracked", order_req_id="TEST001"),
    )
    expected = "INFO  Added order TEST001 to tracking list  action=order.tracked order_req_id=TEST001"
    assert re.fullmatch(f"{TIME} {re.escape(expected)}", line)


def test_a_json_line_has_the_same_facts():
    (line,) = lines_of("json", lambda log: log.warning("Careful", action="x.y", order_req_id="A", count=3, ok=True))
    document = json.loads(line)
    assert re.fullmatch(TIME, document.pop("ts"))
    assert document == {
        "level": "warning",
        "service": "requestor",
        "message": "Careful",
        "action": "x.y",
        "order_req_id": "A",
        "count": 3,
        "ok": True,
    }


def test_a_key_cannot_replace_a_standard_member():
    (line,) = lines_of("json", lambda log: log.info("real", message="false", level="false"))
    assert json.loads(line)["message"] == "real"
    assert json.loads(line)["message_"] == "false"


def test_the_checklist_s_sentence_about_the_request_type_stays_as_it_is():
    sentence = "Request type: <class 'proto.order_service_pb2.OrderStreamRequest'>"
    (line,) = lines_of("console", lambda log: log.info(sentence, action="stream.requested"))
    assert sentence in line


def test_lower_levels_are_not_written(log_format):
    assert lines_of(log_format, lambda log: log.debug("hidden")) == []
    assert len(lines_of(log_format, lambda log: log.debug("shown"), "debug")) == 1
    assert lines_of(log_format, lambda log: log.warning("hidden"), "ERROR") == []


@pytest.mark.parametrize("separator", ["\n", "\r", "\x0b", "\x1b[2J", "\x85", "\u2028", "\u202e", "\ud800", "\x00"])
def test_no_value_can_forge_a_line_or_steer_the_terminal(log_format, separator):
    forged = f"x{separator}2026-11-23T12:00:00.000Z INFO  Forged  action=forged"

    def write(log) -> None:
        log.info(forged, value=forged, items=[forged], inner={"a": forged})

    (line,) = lines_of(log_format, write)
    assert separator not in line
    assert line.isprintable()


def test_a_traceback_cannot_forge_a_line_either(log_format):
    def write(log) -> None:
        try:
            raise ValueError("x\n2026-11-23T12:00:00.000Z INFO  Forged")
        except ValueError:
            log.exception("It failed", action="x.failed")

    lines = lines_of(log_format, write)
    assert "ValueError" in "\n".join(lines)
    assert sum(re.match(TIME, line) is not None for line in lines) == (1 if log_format == "console" else 0)


def test_texts_with_spaces_and_quotes_are_quoted():
    (line,) = lines_of("console", lambda log: log.info("s", a='say "hi" \\', b="x=1 c=2", empty=""))
    assert line.endswith(r'a="say \"hi\" \\" b="x=1 c=2" empty=""')


@pytest.mark.parametrize(
    "key", ["password", "smtp_password", "webhook_secret", "access_token", "Authorization", "api_key"]
)
def test_texts_under_the_names_of_secrets_are_masked(log_format, key):
    (line,) = lines_of(log_format, lambda log: log.info("s", **{key: "hunter2", "inner": {key: "hunter2"}}))
    assert "hunter2" not in line
    assert "***" in line


def test_the_fencing_number_stays_visible(log_format):
    (line,) = lines_of(log_format, lambda log: log.info("s", token=42))
    assert "42" in line


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_no_value_makes_a_log_call_fail(log_format):
    circle: dict[str, object] = {"password": "hunter2"}
    circle["self"] = circle
    endless: list[object] = []
    endless.append(endless)

    def write(log) -> None:
        log.info("s", nan=float("nan"), broken=Broken(), circle=circle, endless=endless, raw=b"\xff\n", keys={1: {2}})
        log.info(Broken())
        log.info("100 %", percent="%s")

    lines = lines_of(log_format, write)
    assert len(lines) == 3
    assert "hunter2" not in lines[0]
    if log_format == "json":
        assert json.loads(lines[0])["nan"] == "nan"


def test_the_context_of_the_thread_stands_on_every_line(log_format):
    def write(log) -> None:
        bound = bind_log_context(request_id="req1")
        log.info("with")
        unbind_log_context(bound)
        log.info("without")

    with_context, without = lines_of(log_format, write)
    assert "req1" in with_context
    assert "req1" not in without


def test_what_libraries_log_goes_the_same_way(log_format):
    def write(_log) -> None:
        logging.getLogger("waitress").warning("Socket %s\nforged", "gone")
        logging.getLogger("waitress").info("broken %d", "text")
        logging.getLogger("waitress.queue").warning("Task queue depth is 5")
        logging.getLogger("urllib3").debug("noise")

    lines = lines_of(log_format, write)
    assert len(lines) == 2
    assert "Socket gone\\nforged" in lines[0]
    assert "waitress" in lines[0]
    assert "broken %d" in lines[1]


def test_a_console_that_lacks_characters_gets_escapes(log_format):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="cp1252")
    configure_logs(log_format, stream=stream)
    get_logger("test").info("Zürich 東京 ✓", city="東京")
    assert b"\\u6771" in raw.getvalue()


def test_a_stream_that_is_gone_stops_nothing(log_format):
    stream = io.StringIO()
    configure_logs(log_format, stream=stream)
    stream.close()
    get_logger("test").info("nobody reads this")


def test_without_stderr_lines_are_dropped(log_format, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    configure_logs(log_format)
    get_logger("test").info("nobody reads this")


def test_lines_of_many_threads_never_mix(log_format):
    writes: list[str] = []

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            writes.append(text)
            return len(text)

    configure_logs(log_format, stream=Stream())
    log = get_logger("test")
    threads = [threading.Thread(target=lambda: [log.info("s", n=n) for n in range(200)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(text.count("\n") for text in writes) == 1600
    assert all(text.endswith("\n") for text in writes)
    assert all(line.count("n=") == 1 or log_format == "json" for line in "".join(writes).splitlines())


def test_a_logger_in_use_follows_a_new_stream_and_format():
    log = get_logger("test")
    first, second = io.StringIO(), io.StringIO()
    configure_logs("console", stream=first)
    log.info("one")
    configure_logs("json", stream=second)
    log.info("two")
    assert "one" in first.getvalue()
    assert json.loads(second.getvalue())["message"] == "two"
