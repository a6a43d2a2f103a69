"""`./millrace chaos --scale`: a backlog and one worker; three more join and leave, are killed and frozen; then lag and ledger.

Nothing is restarted for the end: the workers that are there finish the backlog, so a partition that stands still is seen. The
end is when each request has its result, and not when the lag is 0: a transaction's marker reaches the result partitions one by one, and
a record that waits in a retry topic is no lag of the requests' topic.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from contextlib import suppress

from streams.kafka.config import GroupProtocol
from tests.chaos.stage import Stage, Worker
from tests.support.waiting import until

SLOTS = 4
CHUNK = 2_000
END_LIMIT_S = 180.0


def scale(stage: Stage, protocol: GroupProtocol, *, backlog: int, seconds: float, seed: int) -> Counter[str]:
    """What happened, counted. Raises AssertionError where the backlog is not worked off afterwards."""
    chance, happened = random.Random(seed), Counter[str]()
    settings = {"MILLRACE_GROUP_PROTOCOL": protocol.value}
    for start in range(0, backlog, CHUNK):
        stage.text(*[f"backlog {start + i}" for i in range(min(CHUNK, backlog - start))])
    workers: dict[int, Worker] = {0: stage.worker(0, **settings)}
    workers[0].wait_assigned()
    frozen: dict[int, float] = {}
    until_s = time.perf_counter() + seconds
    while (now := time.perf_counter()) < until_s:
        stage.text(*[f"beside {stage.sent + i}" for i in range(chance.randint(1, 200))])
        for slot in [slot for slot, end in frozen.items() if end < now]:
            workers[slot].signal(signal.SIGCONT)
            del frozen[slot]
        for slot in [slot for slot, worker in workers.items() if worker.process.poll() is not None]:
            del workers[slot]
            frozen.pop(slot, None)
            if slot == 0:
                workers[0] = stage.worker(0, **settings)
                happened["started again"] += 1
        slot = chance.randrange(SLOTS)
        if slot not in workers:
            workers[slot] = stage.worker(slot, **settings)
            happened["joined"] += 1
        else:
            match chance.choices(("nothing", "leave", "kill", "freeze"), (3, 3, 2, 2))[0]:
                case "leave":
                    workers[slot].signal(signal.SIGTERM)
                    happened["left"] += 1
                case "kill":
                    workers[slot].signal(signal.SIGKILL)
                    happened["killed"] += 1
                case "freeze":
                    workers[slot].signal(signal.SIGSTOP)
                    frozen[slot] = now + chance.uniform(0.5, 12.0)
                    happened["frozen"] += 1
        time.sleep(chance.uniform(0.2, 2.0))
    for worker in workers.values():
        worker.signal(signal.SIGCONT)
    if all(worker.process.poll() is not None for worker in workers.values()):
        stage.worker(0, **settings).wait_assigned()
    until(lambda: stage.lag() == 0, END_LIMIT_S, lambda: f"end of the backlog; lag {stage.lag()}. {stage.stacks()}")
    with suppress(AssertionError):  # the ledger names the requests that have no result by then
        stage.wait_answered()
    happened["retried"] = stage.retries()
    return happened
