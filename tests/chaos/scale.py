"""`./millrace chaos --scale`: a backlog and one worker; three more join and leave, are killed and frozen; then lag and ledger.

No worker is restarted for the end: the remaining workers finish the backlog, so a partition without progress is detected. The
end is when each request has its result, and not when the lag is 0: a transaction's marker reaches the result partitions one by
one, and a record that waits in a retry topic does not count as lag of the requests' topic.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

from streams.kafka.config import GroupProtocol
from tests.chaos.crowd import Crowd, Harm
from tests.chaos.stage import Stage
from tests.support.waiting import until

SLOTS = 4
CHUNK = 2_000
END_LIMIT_S = 180.0
CHANCES: dict[Harm | None, float] = {None: 3, "stopped": 3, "killed": 2, "frozen": 2}


def scale(stage: Stage, protocol: GroupProtocol, *, backlog: int, seconds: float, seed: int) -> Counter[str]:
    """The counts of what happened. Raises AssertionError if the backlog is not finished afterwards."""
    for start in range(0, backlog, CHUNK):
        stage.text(*[f"backlog {start + i}" for i in range(min(CHUNK, backlog - start))])
    crowd = Crowd(stage, seed, MILLRACE_GROUP_PROTOCOL=protocol.value)
    crowd.start(0).wait_assigned()
    crowd.live(seconds, 200, (0.2, 2.0), lambda: _join_or_harm(crowd))
    if len(crowd.dead()) == len(crowd.workers):
        crowd.start(0).wait_assigned()
    until(lambda: stage.lag() == 0, END_LIMIT_S, lambda: f"end of the backlog; lag {stage.lag()}. {stage.stacks()}")
    with suppress(AssertionError):  # the ledger then lists the requests without a result
        stage.wait_answered()
    crowd.happened["retried"] = stage.retries()
    return crowd.happened


def _join_or_harm(crowd: Crowd) -> None:
    for slot in crowd.dead():
        del crowd.workers[slot]
        if slot == 0:
            crowd.start(0)
            crowd.happened["started again"] += 1
    slot = crowd.chance.randrange(SLOTS)
    if slot not in crowd.workers:
        crowd.start(slot)
        crowd.happened["joined"] += 1
        return
    (harm,) = crowd.chance.choices(list(CHANCES), list(CHANCES.values()))
    if harm is not None:
        crowd.harm(slot, harm, longest_freeze_s=12.0)
