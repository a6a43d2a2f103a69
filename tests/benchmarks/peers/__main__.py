"""Runs the compared programs in turn and prints their figures. Exits with 1 if a program could not be run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from infra.settings import StackSettings
from schemas.errors import MillraceError
from streams.process.arguments import whole
from streams.process.settings import load
from tests.benchmarks import svg
from tests.benchmarks.peers.chart import chart
from tests.benchmarks.peers.compared import COMPARED, Program
from tests.benchmarks.peers.environments import connector, interpreter
from tests.benchmarks.peers.filled import filled
from tests.benchmarks.peers.goals import figures_of
from tests.benchmarks.peers.rounds import Outcome, Plan, run_rounds
from tests.benchmarks.worker import report, say, servers


def main() -> None:
    chosen = _arguments()
    load_before = os.getloadavg()[0]
    settings = load(StackSettings, os.environ)
    outcome = Outcome()
    programs = [one for one in COMPARED if chosen.only is None or one.name in chosen.only]
    pythons = interpreters(settings, programs, outcome)
    programs = [one for one in programs if one.environment in pythons]
    counts = {one.name: min(one.count, chosen.count) for one in programs}
    if programs:
        plan = Plan(programs, pythons, counts, chosen.rounds, connector(settings))
        with servers() as (bootstrap, registry):
            run_rounds(plan, filled(bootstrap, registry, max(counts.values())), outcome)
    figures = figures_of(outcome, counts)
    report("peers", figures, load_before, chosen.json)
    if chosen.svg is not None and outcome.runs:
        svg.write(chosen.svg, chart(figures))
    for name, reason in outcome.failed.items():
        say(f"not run: {name}: {reason}")
    sys.exit(1 if outcome.failed else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./millrace bench peers")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=whole(), default=3)
    parser.add_argument("--count", type=whole(), default=10**6, help="requests of a round, at most")
    parser.add_argument("--only", action="append", choices=[one.name for one in COMPARED], help="may be repeated")
    svg.add_option(parser, "peers")
    return parser.parse_args()


def interpreters(settings: StackSettings, programs: Sequence[Program], outcome: Outcome) -> dict[str, str]:
    """The interpreter of each environment. Programs whose environment cannot be made are put into `outcome.failed`."""
    pythons: dict[str, str] = {}
    for name in dict.fromkeys(one.environment for one in programs):
        try:
            pythons[name] = interpreter(settings, name)
        except MillraceError as error:
            for one in programs:
                if one.environment == name:
                    outcome.fail(one, str(error))
    return pythons


if __name__ == "__main__":
    main()
