"""`python -m tests.replay.record`: decide anew on the recorded histories, with the code as it is, and write the decisions down.

Allowed where a change of decisions is meant, and told in CHANGELOG.md; the difference of the file then belongs to that change. The records
stay: they are an earlier version's. `--records` writes those anew too, for a new history or a new version of a schema."""

from __future__ import annotations

import argparse
import subprocess

from infra.settings import ROOT
from tests.replay import history
from tests.replay.replays import REPLAYS
from tests.replay.scenarios import SCENARIOS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.replay.record", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"{', '.join(REPLAYS)}; all of them if left out")
    parser.add_argument("--records", action="store_true", help="write the records anew as well, by today's schemas")
    chosen = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    for name in chosen.name or REPLAYS:
        recorded = history.written_today(SCENARIOS[name](), commit) if chosen.records else history.load(name)
        decided = history.decided(recorded, list(REPLAYS[name](recorded)), commit)
        decided.save(name)
        print(f"{name}: {len(decided.records)} records of {decided.records_of}, {len(decided.decisions)} decisions of {commit}")


if __name__ == "__main__":
    main()
