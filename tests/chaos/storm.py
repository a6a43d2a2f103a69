"""`./millrace chaos`: workers and broker killed, frozen and restarted at random from a printed seed; then the ledger.

With `--scale`: a backlog that workers share while they come and go (tests/chaos/scale.py), in each of the group protocols.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from streams.kafka.config import GroupProtocol
from streams.process.arguments import real, whole
from streams.process.shell import configure_logging
from tests.chaos.scale import scale
from tests.chaos.stage import Stage, Worker, staged
from tests.conftest import Servers, start_servers


def storm(servers: Servers, stage: Stage, seconds: float, seed: int) -> Counter[str]:
    """Requests flow all the while; every second or so something bad happens. What happened, counted."""
    chance, done = random.Random(seed), Counter[str]()
    slots: dict[int, Worker] = {slot: stage.worker(slot) for slot in range(2)}
    for worker in slots.values():
        worker.wait_assigned()
    frozen: dict[int, float] = {}
    until_s = time.perf_counter() + seconds
    while time.perf_counter() < until_s:
        stage.text(*[f"text {stage.sent + i}" for i in range(chance.randint(1, 60))])
        now = time.perf_counter()
        for slot in [slot for slot, end in frozen.items() if end < now]:
            slots[slot].signal(signal.SIGCONT)
            del frozen[slot]
        slot = chance.choice(list(slots))
        match chance.choices(("nothing", "kill", "stop", "freeze", "broker"), (6, 3, 2, 2, 0.4))[0]:
            case "kill":
                slots[slot].signal(signal.SIGKILL)
                done["killed"] += 1
            case "stop":
                slots[slot].signal(signal.SIGTERM)
                done["stopped"] += 1
            case "freeze":
                slots[slot].signal(signal.SIGSTOP)
                frozen[slot] = now + chance.uniform(0.5, 6.0)
                done["frozen"] += 1
            case "broker":
                servers.restart_kafka(kill=chance.random() < 0.5)
                done["broker restarted"] += 1
        for number, worker in slots.items():
            if worker.process.poll() is not None:
                slots[number] = stage.worker(number)
                done["started again"] += 1
        time.sleep(chance.uniform(0.1, 1.0))
    for worker in slots.values():
        worker.signal(signal.SIGCONT)
    return done


def main() -> int:
    parser = argparse.ArgumentParser(prog="./millrace chaos", description=__doc__)
    parser.add_argument("--seconds", type=real(above=True), default=60.0)
    parser.add_argument("--seed", type=whole(0), default=int(time.time()), help="the first one")
    parser.add_argument("--seeds", type=whole(1), default=1, help="so many, one after the other")
    parser.add_argument("--scale", action="store_true", help="a backlog that workers share while they come and go")
    parser.add_argument("--backlog", type=whole(1), default=40_000, help="requests, with --scale")
    chosen = parser.parse_args()
    configure_logging(json_lines=True)
    failed = 0
    with contextmanager(start_servers)() as servers:
        for seed in range(chosen.seed, chosen.seed + chosen.seeds):
            failed += not _round(servers, seed, chosen)
    print(f"{chosen.seeds - failed} of {chosen.seeds} seeds without a problem")
    return 1 if failed else 0


def _round(servers: Servers, seed: int, chosen: argparse.Namespace) -> bool:
    """One seed; whether all was answered, once."""
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
