"""The benchmarks' own arithmetic: statistics, what is read from logs and profiles, tables, goals, published pages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import folded, publish, report
from benchmarks.answers import is_complete
from benchmarks.calls import Address, Call
from benchmarks.choice import pick
from benchmarks.faults import BenchFault
from benchmarks.goals import Goal, all_goals, verdicts
from benchmarks.log_times import opening_times
from benchmarks.metrics import METRICS, metric_of
from benchmarks.results import Results, merged
from benchmarks.sizes import LONG, QUICK, USUAL, growth_steps
from benchmarks.summary import Spread, change_over_sizes, percentile, ratio
from devtools import processes, venv

ABOUT = {
    "date": "2030-01-02",
    "commit": "abc1234",
    "rounds": 2,
    "size": "usual",
    "processor": "a processor",
    "cores": 2,
    "system": "Linux",
    "python": "3.11.7",
    "packages": {"flask": "3.1.3"},
    "fsync_ms": 0.2,
    "generator": {"per_s": 60_000, "cpu_us": 12.5},
}


def document(**workloads: dict[str, Any]) -> dict[str, Any]:
    """A document as ``--json`` writes it; an underscore in a workload's name stands for a dash."""
    shaped = {
        name.replace("_", "-"): {"title": f"Title of {name}", "primary": "per_s", "gaps": {}} | workload
        for name, workload in workloads.items()
    }
    return {"about": dict(ABOUT), "workloads": shaped}


# ---- statistics


def test_a_percentile_is_read_between_its_neighbours() -> None:
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile([10.0, 20.0], 99) == pytest.approx(19.9)
    assert percentile([7.0], 99) == 7.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_a_spread_is_the_median_between_the_least_and_the_most() -> None:
    assert Spread.of([5.0, 1.0, 3.0]) == (3.0, 1.0, 5.0)


def test_a_ratio_compares_the_runs_of_the_same_round() -> None:
    assert ratio([10.0, 30.0], [10.0, 10.0]) == (2.0, 1.0, 3.0)
    assert ratio([10.0, 30.0], [20.0]) == (0.5, 0.5, 0.5), "a round that only one has gives nothing"
    assert ratio([1.0], [0.0]) is None
    assert ratio([], [1.0]) is None


def test_the_change_over_sizes_is_that_of_the_fitted_line_in_percent_of_the_mean() -> None:
    assert change_over_sizes([(100, 500.0), (1_000, 500.0), (10_000, 500.0)]) == pytest.approx(0)
    assert change_over_sizes([(100, 90.0), (1_000, 100.0), (10_000, 110.0)]) == pytest.approx(20)
    assert change_over_sizes([(100, 110.0), (10_000, 90.0)]) == pytest.approx(-20)


# ---- sizes and names


@pytest.mark.parametrize("sizes", [QUICK, USUAL, LONG], ids=lambda sizes: sizes.name)
def test_a_block_of_further_orders_never_runs_into_the_next_size(sizes: Any) -> None:
    steps = growth_steps(sizes, None)
    assert [size for size, _ in steps] == list(sizes.growth)
    for (size, block), following in zip(steps, sizes.growth[1:], strict=False):
        assert size + block <= following


def test_a_contender_is_not_grown_beyond_what_it_holds() -> None:
    assert growth_steps(USUAL, 2_000) == [(100, 900), (1_000, 1_000)]
    assert growth_steps(USUAL, 1_000) == [(100, 900)], "no block is left at 1,000"


def test_a_name_picks_a_contender_or_all_workloads_that_begin_with_it() -> None:
    workloads = {"initiate-1": 1, "initiate-16": 16, "idle-500": 500}
    contenders = {"ours": "O", "asgi": "A", "asgi-durable": "D"}
    assert pick([], workloads, contenders) == ([1, 16, 500], ["O", "A", "D"])
    assert pick(["asgi", "initiate"], workloads, contenders) == ([1, 16], ["A"])
    assert pick(["initiate-16", "ours"], workloads, contenders) == ([16], ["O"])
    with pytest.raises(BenchFault, match="init is neither"):
        pick(["init"], workloads, contenders)


def test_the_benchmarks_have_an_environment_of_their_own() -> None:
    assert venv.bench_folder() != venv.venv_folder({})
    assert venv.bench_folder().parent == processes.ROOT / ".venvs"


# ---- what goes over the wire


def test_a_call_is_a_whole_request() -> None:
    head, _, body = Call("/orders", {"a": "é"}).encode(Address("127.0.0.1", 8004)).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /orders HTTP/1.1\r\nHost: 127.0.0.1:8004\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body) == {"a": "é"}
    assert Call("/x").encode(Address("h", 1)) == b"GET /x HTTP/1.1\r\nHost: h:1\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length:2\r\nserver: x\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ],
)
def test_an_answer_is_complete_with_its_last_byte_and_not_before(answer: bytes) -> None:
    assert is_complete(answer)
    assert not any(is_complete(answer[:end]) for end in range(len(answer)))


def test_an_answer_without_a_body_is_complete_with_its_head() -> None:
    assert is_complete(b"HTTP/1.1 204 No Content\r\nserver: x\r\n\r\n")


# ---- what is read


def test_the_first_opening_of_each_order_is_read_from_the_log_of_a_service_and_of_a_peer() -> None:
    lines = [
        "2030-01-01T00:00:00.000Z INFO  Listening  action=web.listening",
        "1970-01-01T00:00:01.250Z INFO  Request type: <class 'x'>  action=stream.opened order_req_id=A1 token=1",
        "1970-01-01T00:00:02.000Z INFO  Request type: workflow  order_req_id=A2",
        "1970-01-01T00:00:09.000Z INFO  Request type: <class 'x'>  action=stream.opened order_req_id=A1 token=1",
    ]
    assert opening_times(lines) == {"A1": 1.25, "A2": 2.0}


PROFILE = """\
thread (0x7F01): web-3;serve (a.py:1);load (b.py:2) 6
thread (0x7F02): web-12;serve (a.py:1) 2
thread (0x7F03): store-writer;run (c.py:9);run (c.py:9) 2
no stack at all
"""


def test_shares_of_functions_and_threads_are_read_from_folded_stacks() -> None:
    stacks = list(folded.read(PROFILE))
    shares = {share.what: (share.own, share.total) for share in folded.by_function(stacks)}
    assert shares == {"load (b.py:2)": (0.6, 0.6), "serve (a.py:1)": (0.2, 0.8), "run (c.py:9)": (0.2, 0.2)}
    assert next(iter(shares)) == "load (b.py:2)", "the largest own share comes first"
    assert folded.by_thread(stacks) == [("web", 0.8), ("store-writer", 0.2)]


# ---- results and tables


def test_results_keep_a_value_for_each_round_and_the_reason_of_a_gap() -> None:
    results = Results()
    results.add("initiate-16", "ours", {"per_s": 1.0})
    results.add("initiate-16", "ours", {"per_s": 2.0})
    results.give_up("initiate-16", "dbos", "too slow")
    assert results.figures == {"initiate-16": {"ours": {"per_s": [1.0, 2.0]}}}
    assert results.has_gap("initiate-16", "dbos")
    assert not results.has_gap("initiate-16", "ours")


def test_a_later_document_takes_the_place_of_what_it_measured_anew() -> None:
    old = document(a={"figures": {"ours": {"per_s": [1.0]}, "asgi": {"per_s": [2.0]}}, "gaps": {"dbos": "slow"}})
    new = document(a={"figures": {"ours": {"per_s": [9.0]}, "dbos": {"per_s": [3.0]}}}, b={"figures": {}})
    both = merged([old, new])["workloads"]
    assert both["a"]["figures"] == {"asgi": {"per_s": [2.0]}, "ours": {"per_s": [9.0]}, "dbos": {"per_s": [3.0]}}
    assert both["a"]["gaps"] == {}
    assert "b" in both
    assert old["workloads"]["a"]["gaps"] == {"dbos": "slow"}, "what was merged stays as it is"


def test_a_table_has_medians_with_spreads_ratios_and_reasons() -> None:
    found = document(
        initiate_16={
            "figures": {
                "ours": {"per_s": [2_000.0, 1_000.0, 3_000.0], "errors": [0.0, 0.0, 0.0]},
                "floor": {"per_s": [2_000.0, 2_000.0, 2_000.0], "errors": [0.0, 0.0, 0.0]},
            },
            "gaps": {"dbos": "no wheel\nand more", "restate": "no wheel"},
        }
    )
    (grid,) = report.grids(found)
    assert list(grid.headings) == ["contender", "answered, 1/s", "ours ÷ it"]
    assert grid.rows == [["ours", "2,000 (1,000–3,000)", ""], ["floor", "2,000 (2,000–2,000)", "1.00 (0.50–1.50)"]]
    assert grid.notes == ["dbos, restate: no wheel"]
    assert report.markdown(found) == (
        "### Title of initiate_16 (initiate-16)\n\n"
        "| contender | answered, 1/s | ours ÷ it |\n|---|--:|--:|\n"
        "| ours | 2,000 (1,000–3,000) |  |\n| floor | 2,000 (2,000–2,000) | 1.00 (0.50–1.50) |\n\n"
        "* dbos, restate: no wheel\n"
    )


def test_errors_have_a_column_only_when_there_were_any() -> None:
    found = document(a={"figures": {"ours": {"per_s": [1.0], "errors": [3.0]}}})
    (grid,) = report.grids(found)
    assert list(grid.headings) == ["contender", "answered, 1/s", "errors"]


def test_figures_with_sizes_have_a_table_each_with_a_column_for_each_size() -> None:
    figures = {"kb_per_order@1000": [2.0], "kb_per_order@100": [4.0], "us_per_order@100": [300.0], "slope_percent": [1]}
    plain, memory, time = report.grids(document(growth={"figures": {"ours": figures}}))
    assert list(plain.headings) == ["contender", "change of cost over sizes, %"]
    assert list(memory.headings) == ["memory per order, KB, at", "100", "1,000"]
    assert memory.rows == [["ours", "4.0", "2.0"]]
    assert time.rows == [["ours", "300"]]


def test_a_workload_without_figures_still_says_why() -> None:
    (grid,) = report.grids(document(a={"figures": {}, "gaps": {"ours": "ended with status 1"}}))
    assert (list(grid.rows), grid.notes) == ([], ["ours: ended with status 1"])


# ---- goals


@pytest.mark.parametrize(("per_s", "is_met"), [(1_300.0, True), (1_299.0, False)])
def test_a_goal_is_met_when_the_median_of_the_ratios_reaches_it(per_s: float, is_met: bool) -> None:
    found = document(
        initiate_16={"figures": {"ours": {"per_s": [per_s]}, "asgi-durable": {"per_s": [1_000.0]}, "floor": {}}}
    )
    by_rival = {verdict.goal.rival: verdict for verdict in verdicts(found) if verdict.goal.figure == "per_s"}
    assert by_rival["asgi-durable"].is_met is is_met
    assert (by_rival["floor"].is_met, by_rival["floor"].shown) == (None, "not measured")
    assert "initiate-64" not in {verdict.goal.workload for verdict in verdicts(found)}
    everything, measured = report.goal_grid(found), report.goal_grid(found, with_unmeasured=False)
    assert measured.rows == [row for row in everything.rows if row[2] != "not measured"] != everything.rows


def test_a_goal_may_compare_ours_with_ours_at_another_size() -> None:
    found = document(
        tracking_10={"figures": {"ours": {"id_p99_ms": [20.0]}}},
        tracking_10000={"figures": {"ours": {"id_p99_ms": [40.0]}}},
    )
    by_bound = {verdict.goal.bound: (verdict.shown, verdict.is_met) for verdict in verdicts(found)}
    assert by_bound == {"≤ 100 ms": ("40.0", True), "≤ 1.5 × tracking-10": ("2.00", False)}


def test_every_goal_names_figures_that_exist_and_one_bound() -> None:
    for goal in all_goals():
        assert metric_of(goal.figure) in METRICS.values()
        assert (goal.at_least is None) != (goal.at_most is None), goal


def test_a_bound_says_what_is_compared() -> None:
    assert Goal("x", "a", "per_s", at_least=1.3, rival="asgi").bound == "≥ 1.3 × asgi"
    assert Goal("x", "a", "threads", at_most=40).bound == "≤ 40"


# ---- publishing


def test_a_section_is_replaced_between_its_marks_and_nothing_else_is() -> None:
    begin, end = "<!-- goals: written by dev.py bench --publish -->", "<!-- end of goals -->"
    text = f"before\n{begin}\nold\n{end}\nafter\n"
    once = publish.replace_section(text, "goals", r"new \1")
    assert once == f"before\n{begin}\n\nnew \\1\n\n{end}\nafter\n"
    assert publish.replace_section(once, "goals", r"new \1") == once
    with pytest.raises(BenchFault, match="tables"):
        publish.replace_section(text, "tables", "x")


def test_the_page_has_every_section_that_is_published() -> None:
    text = publish.PAGE.read_text(encoding="utf-8")
    for name in ("machine", "goals", "plots", "tables"):
        assert "\n\nNEW\n\n" in publish.replace_section(text, name, "NEW")


def test_the_machine_is_told_with_who_was_left_out() -> None:
    found = document()
    found["about"]["left_out"] = {"restate": "node not found"}
    lines = list(publish.machine_lines(found))
    assert "* 2030-01-02, commit abc1234, rounds: 2, size: usual" in lines
    assert lines[-1] == "* restate was left out: node not found"


def test_every_contender_is_described_on_the_page() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in Path(report.__file__).parent.rglob("*.py"))
    names = set(re.findall(r'name: ClassVar\[str\] = "(.+)"', sources))
    assert {"ours", "floor", "asgi", "asgi-durable", "threads", "restate", "dbos"} <= names
    text = publish.PAGE.read_text(encoding="utf-8")
    assert [name for name in sorted(names) if f"\n| `{name}` |" not in text] == []
