"""Which core a process moves to, and that all of its threads go there."""

from __future__ import annotations

import subprocess
import sys

import pytest

from service_kit.one_core import Usage, better_core, processes_kept_on


@pytest.mark.parametrize(
    ("core", "usage", "wanted"),
    [
        pytest.param(0, Usage(0.9, {0: 0.95, 1: 0.1}), 0, id="alone on its core"),
        pytest.param(0, Usage(0.4, {0: 1.0, 1: 0.1}), 1, id="others crowd its core"),
        pytest.param(0, Usage(0.4, {0: 1.0, 1: 0.5, 2: 0.2}), 2, id="the least used of two"),
        pytest.param(0, Usage(0.5, {0: 1.0, 1: 0.4}), 0, id="a gain too small"),
        pytest.param(0, Usage(0.01, {0: 1.0, 1: 0.0}), 0, id="at rest"),
        pytest.param(7, Usage(0.9, {0: 0.0, 1: 0.0}), 7, id="a core that is not counted"),
    ],
)
def test_a_process_moves_when_others_use_its_core_and_another_one_is_free(core: int, usage: Usage, wanted: int) -> None:
    assert better_core(core, usage) == wanted


_PROGRAM = """
import os, threading
from service_kit.one_core import OneCore, be_prompt

allowed = os.sched_getaffinity(0)
release = threading.Event()

def policies_of_all():
    return {os.sched_getscheduler(int(task)) for task in os.listdir("/proc/self/task")}

def cores_of_all():
    return {frozenset(os.sched_getaffinity(int(task))) for task in os.listdir("/proc/self/task")}

threading.Thread(target=release.wait, daemon=True).start()
one_core = OneCore()
one_core.start()
threading.Thread(target=release.wait, daemon=True).start()
print(cores_of_all() == {frozenset({one_core.core})})
print(policies_of_all() == {os.SCHED_BATCH})
be_prompt(is_wanted=True)
print(policies_of_all() == {os.SCHED_OTHER})
one_core._move(next(iter(allowed - {one_core.core})))
print(policies_of_all() == {os.SCHED_OTHER} and cores_of_all() == {frozenset({one_core.core})})
be_prompt(is_wanted=False)
print(policies_of_all() == {os.SCHED_BATCH})
one_core.stop(1.0)
one_core.stop(1.0)
print(cores_of_all() == {frozenset(allowed)} and policies_of_all() == {os.SCHED_OTHER})
be_prompt(is_wanted=False)
print(policies_of_all() == {os.SCHED_OTHER})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no way to keep threads on a core")
def test_all_threads_are_on_one_core_between_start_and_stop_and_as_prompt_as_they_are_asked_to_be() -> None:
    import os  # noqa: PLC0415 # sched_getaffinity is there on Linux alone

    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("the machine has one core")
    told = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    assert [line for line in told.stdout.splitlines() if line in ("True", "False")] == ["True"] * 7


_KEPT = "from service_kit.one_core import OneCore; o = OneCore(); o.start(); print('on', o.core, flush=True); input()"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no way to keep threads on a core")
def test_a_process_that_is_kept_on_a_core_is_seen_by_others() -> None:
    command = [sys.executable, "-c", _KEPT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        core = next(line for line in process.stdout if line.startswith("on ")).split()[1]
        kept = processes_kept_on()
        process.kill()
    if core == "None":
        pytest.skip("the machine has one core")
    assert kept[int(core)] >= 1
