from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from service_kit.errors import StartRefused, StoreFull
from service_kit.lifecycle import Lifecycle, ask_to_stop, report_refusal, run_until_stopped

ROOT = Path(__file__).resolve().parents[2]


class Part:
    """A component that writes down what happens to it."""

    def __init__(self, name: str, story: list[str], *, fails: str = "", takes_s: float = 0.0) -> None:
        self.name = name
        self.timeout_s = -1.0
        self._story = story
        self._fails = fails
        self._takes_s = takes_s

    def start(self) -> None:
        if self._fails == "start":
            raise StartRefused(f"{self.name} will\nnot start")
        self._story.append(f"start {self.name}")

    def stop(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        time.sleep(self._takes_s)
        self._story.append(f"stop {self.name}")
        if self._fails == "stop":
            raise RuntimeError("cannot stop")

    def check(self) -> str | None:
        return None


@pytest.fixture
def story() -> list[str]:
    return []


def test_parts_start_in_order_and_stop_in_reverse(story):
    lifecycle = Lifecycle([Part("a", story), Part("b", story)])
    assert lifecycle.check() == "not started"
    lifecycle.start()
    assert lifecycle.check() is None
    lifecycle.stop()
    assert lifecycle.check() == "stopped"
    assert story == ["start a", "start b", "stop b", "stop a"]


def test_when_a_part_does_not_start_those_before_it_are_stopped_and_its_error_is_raised(story):
    lifecycle = Lifecycle([Part("a", story), Part("b", story, fails="start"), Part("c", story)])
    with pytest.raises(StartRefused, match="b will"):
        lifecycle.start()
    assert story == ["start a", "stop a"]


def test_a_part_that_fails_to_stop_does_not_keep_the_rest_from_stopping(story):
    lifecycle = Lifecycle([Part("a", story), Part("b", story, fails="stop"), Part("c", story)])
    lifecycle.start()
    lifecycle.stop()
    assert story[3:] == ["stop c", "stop b", "stop a"]


def test_stopping_twice_stops_once(story):
    lifecycle = Lifecycle([Part("a", story, takes_s=0.05)])
    lifecycle.start()
    threads = [threading.Thread(target=lifecycle.stop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert story == ["start a", "stop a"]


def test_all_parts_share_one_deadline_and_none_uses_up_the_time_of_the_others(story):
    first, second, third = Part("a", story), Part("b", story), Part("c", story, takes_s=0.5)
    lifecycle = Lifecycle([first, second, third])
    lifecycle.start()
    lifecycle.stop(timeout_s=1.0)
    assert 0.4 < third.timeout_s <= 0.5
    assert 0.1 < second.timeout_s <= 0.25
    assert 0.2 < first.timeout_s <= 0.5


def test_a_component_can_end_the_process_with_its_exit_code(story):
    lifecycle = Lifecycle([Part("a", story)])
    exit_code = run_until_stopped(lifecycle, on_started=lambda: ask_to_stop(3, "the watchdog barked"))
    assert exit_code == 3
    assert story == ["start a", "stop a"]


def test_the_collector_is_spared_what_a_start_has_made_until_the_stop(story):
    spared: list[int] = []

    def look_and_stop() -> None:
        # Python 3.12 spares a few hundred immortal objects by itself.
        deadline = time.monotonic() + 10
        while (count := gc.get_freeze_count()) < 1_000 and time.monotonic() < deadline:
            time.sleep(0.01)
        spared.append(count)
        ask_to_stop(0)

    looker = threading.Thread(target=look_and_stop)
    assert run_until_stopped(Lifecycle([Part("a", story)]), on_started=looker.start) == 0
    looker.join()
    assert spared[0] > 1_000
    assert gc.get_freeze_count() == 0


def test_a_request_of_an_earlier_run_is_forgotten(story):
    ask_to_stop(7)
    assert run_until_stopped(Lifecycle([]), on_started=lambda: ask_to_stop(3)) == 3


def test_a_refused_start_is_one_line_and_exit_code_1(story, capsys):
    assert run_until_stopped(Lifecycle([Part("a", story, fails="start")])) == 1
    assert capsys.readouterr().err == "a will not start\n"
    assert report_refusal(StartRefused("x")) == 1


def test_a_start_that_finds_no_room_in_its_store_is_one_line_and_exit_code_1(story, capsys):
    class Full(Part):
        def start(self) -> None:
            raise StoreFull("The store has no room left.")

    assert run_until_stopped(Lifecycle([Part("a", story), Full("b", story)])) == 1
    assert capsys.readouterr().err == "The service cannot start. The store has no room left.\n"
    assert story == ["start a", "stop a"]


def test_parts_are_stopped_when_the_caller_s_own_code_fails_after_the_start(story):
    def fail() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        run_until_stopped(Lifecycle([Part("a", story)]), on_started=fail)
    assert story == ["start a", "stop a"]


PROGRAM = """
import sys, time
from service_kit.lifecycle import Lifecycle, run_until_stopped
from service_kit.logs import configure_logs

class Part:
    name = "part"
    def start(self): pass
    def stop(self, timeout_s): time.sleep(float(sys.argv[1]))
    def check(self): return None

configure_logs()
sys.exit(run_until_stopped(Lifecycle([Part()]), on_started=lambda: print("up", flush=True)))
"""


def run_program(stop_takes_s: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(stop_takes_s)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


@pytest.mark.skipif(sys.platform == "win32", reason="a signal can be sent to a console group only")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_the_first_signal_stops_in_order(name):
    process = run_program(stop_takes_s=0)
    process.send_signal(signal.Signals[name])
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert f"Stopping: {name}" in errors
    assert "Stopped" in errors
    assert "Traceback" not in errors


@pytest.mark.skipif(sys.platform == "win32", reason="a signal can be sent to a console group only")
def test_the_second_signal_ends_at_once():
    process = run_program(stop_takes_s=60)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130


STUCK = """
import threading
from service_kit.lifecycle import end_process

threading.Thread(target=threading.Event().wait).start()
print("last words", end="")
end_process(70)
"""


def test_a_thread_that_never_ends_does_not_hold_up_the_end_of_the_process():
    command = [sys.executable, "-c", STUCK]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, text=True, timeout=20)
    assert (ended.returncode, ended.stdout, ended.stderr) == (70, "last words", "")
