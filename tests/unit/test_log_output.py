"""The lines of a busy moment go out together, in their order, and none waits for long."""

from __future__ import annotations

import threading
import time

import pytest

from service_kit import log_output
from service_kit.log_output import LogOutput, LogWriter


class Writes:
    """A stream that keeps what each write has brought, and can be held."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.is_entered = threading.Event()

    def write(self, text: str) -> int:
        self.is_entered.set()
        self.may_go_on.wait(10)
        self.texts.append(text)
        return len(text)

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 10
        while text not in "".join(self.texts):
            assert time.monotonic() < deadline, self.texts
            time.sleep(0.002)


@pytest.fixture
def writes():
    return Writes()


@pytest.fixture
def output(writes):
    output = LogOutput()
    output.use(writes)
    return output


@pytest.fixture
def writer(output, monkeypatch):
    # Long, so that all of a test is one moment, on a busy machine too.
    monkeypatch.setattr(log_output, "MOMENT_S", 0.5)
    monkeypatch.setattr(log_output, "AT_ONCE", 1)
    writer = LogWriter(output)
    writer.start()
    yield writer
    writer.stop(5)


def test_without_the_thread_each_line_goes_out_at_once(output, writes):
    output.put("one\n", is_urgent=False)
    output.put("two\n", is_urgent=False)
    assert writes.texts == ["one\n", "two\n"]


def test_a_few_lines_go_out_at_once(output, writes, monkeypatch):
    monkeypatch.setattr(log_output, "MOMENT_S", 0.5)
    writer = LogWriter(output)
    writer.start()
    lines = [f"line {number}\n" for number in range(log_output.AT_ONCE + 2)]
    for line in lines:
        output.put(line, is_urgent=False)
    assert writes.texts == lines[: log_output.AT_ONCE]
    writer.stop(5)
    assert writes.texts == [*lines[: log_output.AT_ONCE], "".join(lines[log_output.AT_ONCE :])]


def test_the_first_line_goes_out_at_once_and_those_of_its_moment_together(output, writes, writer):
    output.put("first\n", is_urgent=False)
    assert writes.texts == ["first\n"]
    for number in range(100):
        output.put(f"line {number}\n", is_urgent=False)
    assert writes.texts == ["first\n"]
    writes.wait_for("line 99\n")
    assert writes.texts == ["first\n", "".join(f"line {number}\n" for number in range(100))]


def test_a_warning_takes_what_came_before_it_along(output, writes, writer):
    output.put("first\n", is_urgent=False)
    output.put("second\n", is_urgent=False)
    output.put("trouble\n", is_urgent=True)
    assert "".join(writes.texts) == "first\nsecond\ntrouble\n"


def test_a_stop_leaves_nothing_behind_and_lines_go_out_at_once_again(output, writes, writer):
    output.put("first\n", is_urgent=False)
    output.put("second\n", is_urgent=False)
    writer.stop(5)
    writer.stop(5)
    assert "".join(writes.texts) == "first\nsecond\n"
    output.put("third\n", is_urgent=False)
    assert writes.texts[-1] == "third\n"


def test_the_lines_of_many_threads_all_arrive_in_the_order_of_each(output, writes, monkeypatch):
    monkeypatch.setattr(log_output, "MOMENT_S", 0.001)
    writer = LogWriter(output)
    writer.start()

    def put(name: int) -> None:
        for number in range(500):
            output.put(f"{name} {number}\n", is_urgent=number % 50 == 0)

    threads = [threading.Thread(target=put, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.stop(5)
    lines = "".join(writes.texts).splitlines()
    for name in range(8):
        assert [line for line in lines if line.startswith(f"{name} ")] == [f"{name} {number}" for number in range(500)]


def test_a_stream_that_takes_nothing_holds_nobody_up_and_costs_bounded_memory(output, writes, writer, monkeypatch):
    monkeypatch.setattr(log_output, "MOST_WAITING", 100)
    writes.may_go_on.clear()
    held = threading.Thread(target=output.put, args=("held\n",), kwargs={"is_urgent": True})
    held.start()
    assert writes.is_entered.wait(10)
    for number in range(150):
        output.put(f"line {number}\n", is_urgent=number % 2 == 0)
    assert output.lost_lines == 50
    writes.may_go_on.set()
    held.join(10)
    writes.wait_for("line 99\n")
    assert len("".join(writes.texts).splitlines()) == 101
