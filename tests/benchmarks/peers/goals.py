"""The figures of all runs: one per program, by guarantee, and our goals against them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.benchmarks.peers.compared import AT_LEAST_ONCE, COMPARED, EXACTLY_ONCE, GUARANTEES, MILLRACE, Program
from tests.benchmarks.peers.rounds import Outcome
from tests.benchmarks.worker import against, figure, middle

Runs = Mapping[str, list[dict[str, Any]]]  # of each program that ran, by its name

BEST_GOAL = 2.0
# (our guarantee, peer, goal)
GOALS = (
    (AT_LEAST_ONCE, "quix", 25.0),
    (EXACTLY_ONCE, "quix-exactly-once", 25.0),
    (AT_LEAST_ONCE, "faust", 45.0),
    (AT_LEAST_ONCE, "mlserver", 300.0),
)


def figures_of(outcome: Outcome, counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """counts: requests of a round, by program."""
    runs, failed = outcome.runs, outcome.failed
    ordered = [one for guarantee in GUARANTEES for one in COMPARED if one.guarantee == guarantee]
    rates = [_rate(one, runs[one.name], counts[one.name]) for one in ordered if one.name in runs]
    missing = [_not_run(one, failed[one.name]) for one in ordered if one.name in failed]
    return [*rates, *missing, *_goals(runs), *_own_ledger(runs)]


def _rate(program: Program, runs: list[dict[str, Any]], count: int) -> dict[str, Any]:
    return figure(
        f"{program.guarantee}: {program.title}",
        middle(runs),
        "records/s",
        "printed",
        None,
        program=program.name,
        guarantee=program.guarantee,
        spread=[round(f(one["records_s"] for one in runs), 1) for f in (min, max)],
        cpu_us_a_record=round(middle(runs, "cpu_us"), 2),
        requests=count,
        seconds=[round(one["seconds"], 1) for one in runs],
        lost=[one["lost"] for one in runs],
        doubled=[one["doubled"] for one in runs],
        load_before=[one["load_before"] for one in runs],
    )


def _not_run(program: Program, reason: str) -> dict[str, Any]:
    return figure(
        f"{program.guarantee}: {program.title}", 0.0, "records/s", "not run", False, program=program.name, reason=reason
    )


def _goals(runs: Runs) -> list[dict[str, Any]]:
    made = []
    for guarantee, ours in MILLRACE.items():
        peers = [one for one in COMPARED if one.guarantee == guarantee and one.name in runs and one.name != ours]
        if ours in runs and peers:
            best = max(peers, key=lambda one: middle(runs[one.name]))
            made.append(against(f"Millrace and the best, {guarantee}", runs[ours], runs[best.name], best.title, BEST_GOAL))
    by_name = {one.name: one for one in COMPARED}
    for guarantee, name, goal in GOALS:
        ours, peer = MILLRACE[guarantee], by_name[name]
        if ours in runs and name in runs:
            reference = f"{peer.title}, {peer.guarantee}"
            made.append(
                against(f"Millrace, {guarantee}, and {peer.title.partition(',')[0]}", runs[ours], runs[name], reference, goal)
            )
    return made


def _own_ledger(runs: Runs) -> list[dict[str, Any]]:
    ours = [one for name in MILLRACE.values() for one in runs.get(name, [])]
    wrong = sum(one["lost"] + one["doubled"] for one in ours)
    return [figure("lost or doubled by Millrace", wrong, "records", "0", wrong == 0)] if ours else []
