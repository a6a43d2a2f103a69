"""`./millrace review list | decide`: items that wait for a person, and what the person decides, as a label."""

from __future__ import annotations

import getpass
from typing import Any

from infra import console
from infra.inspect import addresses
from infra.settings import StackSettings
from schemas.categories import CATEGORIES
from schemas.codec import Encoder
from schemas.errors import InvalidRequest
from schemas.generated import Label, ModerationVerdict
from schemas.known import known
from schemas.topics import CONTENT_ACTIONS, LABELS, MODERATION_VERDICTS
from streams.clock import SystemClock
from streams.headers import cloud_event
from streams.ids import time_ms_of, uuid7
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.readback import records
from streams.kafka.sink import KafkaSink
from streams.rows import OutRecords
from streams.text import as_json as spelt
from streams.text import moment

READ_LIMIT_S = 15.0


def _last_actions(settings: StackSettings) -> dict[str, dict[str, Any]]:
    """Of each item the action that holds: its last."""
    address, ids = addresses(settings)
    return {action["content_id"]: action for action in records(address, CONTENT_ACTIONS.name, ids)}


def show(settings: StackSettings, as_json: bool) -> None:
    """Items whose last action is `review`, oldest first."""
    waiting = sorted((a for a in _last_actions(settings).values() if a["action"] == "review"), key=lambda a: a["decided_ms"])
    if as_json:
        for action in waiting:
            print(spelt(action))
        return
    if not waiting:
        console.out.print("nothing waits for a review")
        return
    console.table("waiting for a review", ("content", "author", "since", "why"), [
        (a["content_id"], a["author_id"] or "", moment(a["decided_ms"]), "; ".join(a["reasons"]))
        for a in waiting
    ])  # fmt: skip
    console.out.print("\n  ./millrace review decide CONTENT allow|remove --note WHY")


def decide(settings: StackSettings, content_id: str, action: str, truth: list[str], note: str | None, as_json: bool) -> None:
    """Write the decision as a label; `decisions` makes it the item's action. Raises InvalidRequest."""
    if action not in ("allow", "remove"):
        raise InvalidRequest(f"{action!r} is no decision: use allow or remove")
    unknown = set(truth) - set(CATEGORIES)
    if unknown:
        raise InvalidRequest(f"no category {', '.join(sorted(unknown))}; there are {', '.join(CATEGORIES)}")
    held = _last_actions(settings).get(content_id)
    if held is None:
        raise InvalidRequest(f"no action on {content_id} was ever taken: `./millrace review list` shows what waits")
    holds = set(truth) if truth or action == "allow" else _flagged(settings, held["request_id"])
    now_ms = SystemClock().now_ms()
    label = Label(
        request_id=held["request_id"], source="review", task="moderation",
        truth={category: category in holds for category in CATEGORIES},
        content_id=content_id, author_id=held["author_id"], action=action, actor=getpass.getuser(), note=note, labelled_ms=now_ms,
    )  # fmt: skip
    address, ids = addresses(settings)
    value = Encoder("label", LABELS.subject, ids).encode_one(label)
    sink = KafkaSink(address, None)
    headers = cloud_event([uuid7(now_ms)], "label", "review command")
    sink.produce(OutRecords(LABELS.name, [label.request_id.encode()], [value], headers))
    sink.flush(10.0)
    if as_json:
        print(spelt({"content_id": content_id, "action": action, "request_id": label.request_id, "truth": label.truth}))
    else:
        words = f"{content_id}: {action}, written to {LABELS.name}; it was {held['action']} by {held['decided_by']}"
        console.out.print(console.escape(words))


def _flagged(settings: StackSettings, request_id: str) -> set[str]:
    """What the verdict flagged: a removal that names nothing confirms it."""
    address, ids = addresses(settings)
    admin, at_ms = KafkaAdmin(address), time_ms_of(request_id)
    start: str | dict[tuple[str, int], int] = "first"
    if at_ms is not None:
        name = MODERATION_VERDICTS.name
        start = admin.offsets_at([(name, n) for n in range(admin.partitions()[name])], max(0, at_ms - 5_000))
    reader = KafkaBroadcast(address, MODERATION_VERDICTS.name, SystemClock(), start)
    polled = reader.read_to_end(READ_LIMIT_S)
    reader.close()
    for _, verdict in known(polled.values, ModerationVerdict.RECORD, ids):
        if verdict["request_id"] == request_id:
            return {c["category"] for c in verdict["categories"] if c["flagged"]}
    return set()
