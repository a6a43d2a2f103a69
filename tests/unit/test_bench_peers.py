"""The parts of `bench peers` that need no server: counting, watching, goals, chart and environments."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from infra.local.processes import ProcessFailed
from infra.settings import StackSettings
from schemas import avro
from schemas.codec import Decoder, Encoder
from streams.schema_registry import MemoryRegistry
from tests.benchmarks.mlp import REQUESTS, RESULTS
from tests.benchmarks.network import WIDTH, Mlp
from tests.benchmarks.peers import json_requests, visible
from tests.benchmarks.peers.__main__ import interpreters
from tests.benchmarks.peers.chart import chart
from tests.benchmarks.peers.compared import COMPARED, GUARANTEES, Program
from tests.benchmarks.peers.environments import REQUIREMENTS
from tests.benchmarks.peers.goals import GOALS, figures_of
from tests.benchmarks.peers.measured import answer_in
from tests.benchmarks.peers.programs.answers import Answers, Job, Request, headers_of
from tests.benchmarks.peers.rounds import Outcome
from tests.benchmarks.peers.tally import Requests, Tally
from tests.benchmarks.peers.visible import Mark, watch


def run_of(rate: float, **more: Any) -> dict[str, Any]:
    return {"records_s": rate, "cpu_us": 1e6 / rate, "seconds": 1.0, "lost": 0, "doubled": 0, "load_before": 0.1, **more}


# --- counting -----------------------------------------------------------------------------------------------------


def logits(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


def tally_of(*taken: str) -> Tally:
    tally = Tally(Requests(["a", "b", "c", "d"], np.array([[1, 2], [3, 4], [5, 6], [7, 8]], np.float32)))
    right = {"a": logits(1, 2), "b": logits(3, 4), "c": logits(5, 6), "d": logits(7, 8)}
    for offset, request_id in enumerate(taken):
        tally.take(request_id, right.get(request_id, b""), offset)
    return tally


def test_a_tally_counts_what_was_lost_and_what_was_doubled() -> None:
    tally = tally_of("a", "b", "b", "of another run", "b", "d")
    assert (tally.lost, tally.doubled, tally.wrong) == (1, 2, 0)


def test_a_result_with_other_logits_is_wrong() -> None:
    tally = tally_of("a", "b")
    tally.take("c", logits(5, 7), 2)
    assert tally.wrong == 1


def test_offsets_without_a_result_are_not_counted() -> None:
    """Offset 4 is the marker of a transaction."""
    tally = tally_of()
    for offset in (0, 1, 2, 3, 5, 6):
        tally.take("a", logits(1, 2), offset)
    assert tally.between(2, 6) == 3


def test_the_answers_of_the_peers_are_results_of_our_catalogue() -> None:
    """The value that peers write is read by the codec of our own worker, and the logits by the bench."""
    ids = MemoryRegistry()
    schema_id = ids.register(RESULTS.subject, avro.schema("tensor-result"))
    requests_id = ids.register(REQUESTS.subject, avro.schema("tensor-request"))
    assert requests_id != schema_id
    tensors = np.random.default_rng(3).standard_normal((2, WIDTH)).astype("<f4")
    values = Encoder.of(REQUESTS, ids).encode({"name": ["x", "y"], "tensor": tensors, "sent_ms": [1, 2]}, 2)
    job = Job("", "", "", REQUESTS.name, RESULTS.name, schema_id, "at-least-once", "", "")
    answered = Answers(job)([Request(bytes(value), f"id-{i}", 0, i, 1.0) for i, value in enumerate(values)])
    columns, undecodable = Decoder.of(RESULTS, ids).decode(answered)
    assert undecodable == {}
    assert [one["request_id"] for one in columns.records()] == ["id-0", "id-1"]
    tally = Tally(Requests(["id-0", "id-1"], Mlp()(tensors)))
    for offset, value in enumerate(answered):
        tally.take(*answer_in(b"", value, headers_of(f"id-{offset}")), offset)
    assert (tally.lost, tally.wrong) == (0, 0)


def test_a_json_answer_has_its_key_and_its_logits() -> None:
    body = {"outputs": [{"name": "logits", "shape": [1, 2], "datatype": "FP32", "data": [1.5, -2.0]}]}
    assert json_requests.answer_in(b"r", json.dumps(body).encode(), []) == ("r", logits(1.5, -2.0))


# --- watching -----------------------------------------------------------------------------------------------------


def ends(*values: int) -> Any:
    left = list(values)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def watched(end: Any, running: bool = True, count: int = 10) -> tuple[Mark, Mark]:
    return watch(end, lambda: 1.0, lambda: running, 5, count)


def test_a_run_is_measured_from_its_first_visible_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visible, "POLL_S", 0.001)
    first, last = watched(ends(5, 5, 8, 12, 16, 20))
    assert (first.end, last.end) == (8, 16)
    assert first.at_s < last.at_s


def test_a_run_that_stalls_ends_with_its_last_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visible, "POLL_S", 0.001)
    monkeypatch.setattr(visible, "STALL_S", 0.05)
    first, last = watched(ends(5, 7, 9, 9))
    assert (first.end, last.end) == (7, 9)
    assert last.at_s - first.at_s < 0.05


def test_a_program_that_ends_has_failed() -> None:
    with pytest.raises(ProcessFailed, match="ended after 2 of 10 results"):
        watched(ends(7), running=False)


def test_a_program_without_results_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visible, "START_LIMIT_S", 0.05)
    with pytest.raises(ProcessFailed, match="no result became visible"):
        watched(ends(5))


# --- figures and goals --------------------------------------------------------------------------------------------

RUNS = {
    "millrace": [run_of(90_000), run_of(80_000), run_of(100_000)],
    "bytewax": [run_of(40_000)],
    "quix": [run_of(4_000)],
    "millrace-exactly-once": [run_of(80_000)],
    "bare-loop-exactly-once": [run_of(50_000)],
}
COUNTS = {one.name: one.count for one in COMPARED}


def by_name(figures: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in figures}


def test_the_best_is_of_the_same_guarantee() -> None:
    figures = by_name(figures_of(Outcome(RUNS), COUNTS))
    least, exactly = figures["Millrace and the best, at-least-once"], figures["Millrace and the best, exactly-once"]
    assert (least["reference"], least["ratio"], least["met"]) == ("Bytewax", 2.25, True)
    assert (exactly["reference"], exactly["ratio"], exactly["met"]) == ("confluent-kafka loop", 1.6, False)


def test_figures_are_in_groups_by_guarantee() -> None:
    order = [GUARANTEES.index(one["guarantee"]) for one in figures_of(Outcome(RUNS), COUNTS) if "guarantee" in one]
    assert len(order) == len(RUNS)
    assert order == sorted(order)


def test_a_program_that_was_not_run_is_named_with_its_reason() -> None:
    figures = by_name(figures_of(Outcome(RUNS, {"faust": "no environment"}), COUNTS))
    faust = figures["at-least-once: Faust"]
    assert (faust["met"], faust["goal"], faust["reason"]) == (False, "not run", "no environment")


def test_a_result_that_we_lose_misses_a_goal() -> None:
    runs = {"millrace": [run_of(90_000), run_of(90_000, lost=1)]}
    assert by_name(figures_of(Outcome(runs), COUNTS))["lost or doubled by Millrace"]["met"] is False


def test_goals_name_programs_that_exist() -> None:
    assert {peer for _, peer, _ in GOALS} <= {one.name for one in COMPARED}


# --- the chart ----------------------------------------------------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"


def test_the_chart_has_a_bar_per_program_on_a_logarithmic_scale() -> None:
    runs = {"millrace": [run_of(100_000)], "bytewax": [run_of(10_000)], "quix": [run_of(1_000)]}
    drawn = ElementTree.fromstring(chart(figures_of(Outcome(runs), COUNTS)))
    bars = [float(one.attrib["width"]) for one in drawn.iter(f"{SVG}rect") if one.attrib["class"] in ("bar", "ours")]
    assert len(bars) == 3
    assert bars[0] - bars[1] == pytest.approx(bars[1] - bars[2], abs=0.2)
    texts = {one.text for one in drawn.iter(f"{SVG}text")}
    assert {"At least once", "Millrace", "Bytewax", "Quix Streams", "100,000", "1,000"} <= texts


def test_the_chart_has_colours_for_dark_pages() -> None:
    assert "prefers-color-scheme: dark" in chart(figures_of(Outcome(RUNS), COUNTS))


# --- environments -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted({one.environment for one in COMPARED} - {"", "flink"}))
def test_requirements_are_exact_versions(name: str) -> None:
    lines = (REQUIREMENTS / f"{name}.txt").read_text().splitlines()
    named = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    assert len(named) > 5
    assert [line for line in named if not re.fullmatch(r"[\w.\[\]-]+==[\w.]+( ; .*)?", line)] == []


def test_a_peer_without_environment_is_reported_and_the_others_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "uv"
    tool.write_text("#!/bin/sh\necho no such package >&2\nexit 2\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    programs: list[Program] = [one for one in COMPARED if one.name in ("faust", "bare-loop")]
    outcome = Outcome()
    pythons = interpreters(StackSettings(home=str(tmp_path / "home")), programs, outcome)
    assert list(pythons) == [""]
    assert list(outcome.failed) == ["faust"]
    assert "no such package" in outcome.failed["faust"]
