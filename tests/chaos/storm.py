"""`./millrace chaos`: workers and broker killed, frozen and restarted at random from a printed seed; then the ledger.

With `--chat`: conversations whose workers are killed and frozen in mid-answer (tests/chaos/chat_storm.py).
With `--scale`: a backlog that workers share while they come and go (tests/chaos/scale.py), in each of the group protocols.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from streams.kafka.config import GroupProtocol
from streams.process.arguments import real, whole
from streams.process.shell import configure_logging
from tests.chaos.chat_storm import chat_storm
from tests.chaos.crowd import Crowd, Harm
from tests.chaos.scale import scale
from tests.chaos.stage import Stage, staged
from tests.conftest import Servers, start_servers

ROUNDS = 5  # with --chat
CHANCES: dict[Harm | Literal["broker"] | None, float] = {None: 6, "killed": 3, "stopped": 2, "frozen": 2, "broker": 0.4}


def storm(servers: Servers, stage: Stage, seconds: float, seed: int) -> Counter[str]:
    """Sends requests all the time, with a fault about every second. Returns the counts of what happened."""
    crowd = Crowd(stage, seed)
    for slot in range(2):
        crowd.start(slot)
    for worker in crowd.workers.values():
        worker.wait_assigned()
    crowd.live(seconds, 60, (0.1, 1.0), lambda: _harm_and_start_again(servers, crowd))
    return crowd.happened


def _harm_and_start_again(servers: Servers, crowd: Crowd) -> None:
    slot = crowd.chance.choice(list(crowd.workers))
    (harm,) = crowd.chance.choices(list(CHANCES), list(CHANCES.values()))
    if harm == "broker":
        servers.restart_kafka(kill=crowd.chance.random() < 0.5)
        crowd.happened["broker restarted"] += 1
    elif harm is not None:
        crowd.harm(slot, harm, longest_freeze_s=6.0)
    for dead in crowd.dead():
        crowd.start(dead)
        crowd.happened["started again"] += 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="./millrace chaos", description=__doc__)
    parser.add_argument("--seconds", type=real(above=True), default=60.0)
    parser.add_argument("--seed", type=whole(0), default=int(time.time()), help="the first one")
    parser.add_argument("--seeds", type=whole(1), default=1, help="so many, one after the other")
    parser.add_argument("--scale", action="store_true", help="a backlog that workers share while they come and go")
    parser.add_argument("--backlog", type=whole(1), default=40_000, help="requests, with --scale")
    parser.add_argument("--chat", action="store_true", help="conversations whose workers are killed and frozen in mid-answer")
    parser.add_argument("--conversations", type=whole(1), default=32, help="at once, with --chat")
    chosen = parser.parse_args()
    configure_logging(json_lines=True)
    failed = 0
    with contextmanager(start_servers)() as servers:
        for seed in range(chosen.seed, chosen.seed + chosen.seeds):
            failed += not _round(servers, seed, chosen)
    print(f"{chosen.seeds - failed} of {chosen.seeds} seeds without a problem")
    return 1 if failed else 0


def _round(servers: Servers, seed: int, chosen: argparse.Namespace) -> bool:
    """Run one seed; returns whether every request was answered exactly once."""
    if chosen.chat:
        print(f"seed {seed}, {chosen.conversations} conversations, {ROUNDS} rounds", flush=True)
        harms, wrong = chat_storm(servers, chosen.conversations, ROUNDS, seed)
        print("  " + ", ".join(f"{what} {n} times" for what, n in harms.items()) + f"; {len(wrong)} problems", flush=True)
        print(*wrong[:20], sep="\n", end="\n" if wrong else "", flush=True)
        return not wrong
    with tempfile.TemporaryDirectory() as folder, staged(servers.bootstrap, servers.registry, Path(folder)) as stage:
        try:
            if chosen.scale:
                protocol = list(GroupProtocol)[seed % len(GroupProtocol)]
                print(f"seed {seed}, {protocol.value} group, a backlog of {chosen.backlog}, {chosen.seconds:.0f} s", flush=True)
                happened = scale(stage, protocol, backlog=chosen.backlog, seconds=chosen.seconds, seed=seed)
            else:
                print(f"seed {seed}, {chosen.seconds:.0f} s", flush=True)
                happened = storm(servers, stage, chosen.seconds, seed)
                stage.settle()
        except AssertionError as failure:
            print(f"  {failure}", flush=True)
            return False
        problems = stage.problems()
        results, letters = len(stage.ends()), len(stage.letters())
    print("  " + ", ".join(f"{what} {n} times" for what, n in happened.items()))
    print(f"  {stage.sent} requests, {results} results, {letters} dead letters, {len(problems)} problems", flush=True)
    for problem in problems[:20]:
        print(f"  {problem}", flush=True)
    return not problems


if __name__ == "__main__":
    sys.exit(main())
