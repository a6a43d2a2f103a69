"""`./millrace review list | decide`: items that wait for a person, and the person's decision, written as a label."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra import console
from infra.running import addresses
from infra.settings import StackSettings
from schemas.categories import CATEGORIES
from schemas.codec import SchemaIds
from schemas.errors import InvalidRequest
from schemas.generated import Label
from schemas.topics import CONTENT_ACTIONS, LABELS, MODERATION_VERDICTS
from streams.clock import SystemClock
from streams.ids import time_ms_of, uuid7
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.kafka.readback import records
from streams.kafka.write import write
from streams.readable import Readable
from streams.record_writer import RecordWriter
from streams.terminal_text import as_json as json_line
from streams.terminal_text import moment

READ_LIMIT_S = 15.0
CLOCK_SKEW_MS = 5_000  # between the clock that created the request id and the broker's
Truth = dict[str, bool]  # by category, whether it applies


@dataclass(frozen=True)
class Decision:
    """categories: those that apply to the item. part: the part to which they apply, if known. note: the reason."""

    content_id: str
    action: str
    categories: tuple[str, ...] = ()
    part: str | None = None
    note: str | None = None

    def check(self) -> None:
        """Raises InvalidRequest."""
        if self.action not in ("allow", "remove"):
            raise InvalidRequest(f"{self.action!r} is not a decision: use allow or remove")
        if unknown := sorted(set(self.categories) - set(CATEGORIES)):
            raise InvalidRequest(f"there is no category {', '.join(unknown)}; the categories are {', '.join(CATEGORIES)}")


def show(settings: StackSettings, as_json: bool) -> None:
    """List the items whose last action is `review`, oldest first."""
    actions = _last_actions(*addresses(settings)).values()
    waiting = sorted((action for action in actions if action["action"] == "review"), key=lambda action: action["decided_ms"])
    if as_json:
        for action in waiting:
            print(json_line(action))
        return
    if not waiting:
        console.out.print("nothing waits for a review")
        return
    console.table(
        "waiting for a review",
        ("content", "author", "since", "why"),
        [
            (action["content_id"], action["author_id"] or "", moment(action["decided_ms"]), "; ".join(action["reasons"]))
            for action in waiting
        ],
    )
    console.out.print("\n  ./millrace review decide CONTENT allow|remove --note WHY")


def decide(settings: StackSettings, decision: Decision, as_json: bool) -> None:
    """Write the decision as a label; the `decisions` processor turns it into the item's action. Raises InvalidRequest."""
    decision.check()
    address, registry = addresses(settings)
    last_action = _last_actions(address, registry).get(decision.content_id)
    if last_action is None:
        raise InvalidRequest(f"there is no action on {decision.content_id}: `./millrace review list` shows the items that wait")
    whole, parts = truths(_verdict(address, registry, last_action["request_id"]), decision)
    now_ms = SystemClock().now_ms()
    label = Label(
        request_id=last_action["request_id"],
        source="review",
        task="moderation",
        truth=whole,
        parts=parts,
        content_id=decision.content_id,
        author_id=last_action["author_id"],
        action=decision.action,
        actor=getpass.getuser(),
        note=decision.note,
        labelled_ms=now_ms,
    )
    write(address, RecordWriter(LABELS, registry, "review command").of(label, label.request_id, uuid7(now_ms)))
    if as_json:
        fields = {"request_id": label.request_id, "truth": label.truth, "parts": label.parts}
        print(json_line({"content_id": decision.content_id, "action": decision.action, **fields}))
    else:
        _print(label, last_action)


def _print(label: Label, last_action: Mapping[str, Any]) -> None:
    before = f"{last_action['action']} by {last_action['decided_by']}"
    console.out.print(console.escape(f"{label.content_id}: {label.action}, written to {LABELS.name}; before it was {before}"))
    placed = {category for truth in label.parts.values() for category in truth}
    unplaced = [category for category, holds in label.truth.items() if holds and category not in placed]
    if unplaced:
        console.out.print(
            f"no model is trained on {', '.join(unplaced)} of this item, because the part that it holds for is unknown: name it "
            "with --part"
        )


def truths(verdict: Mapping[str, Any] | None, decision: Decision) -> tuple[Truth, dict[str, Truth]]:
    """The truths that the decision gives for the whole item, and for its parts by name. verdict: None if its record has
    expired. Pure.

    `allow`: no judged category applies, except those that the decision names. `remove`: the named categories apply, or the
    flagged ones if none is named; a flagged category that is not named does not apply. A category whose part is unknown is
    recorded for the whole item only, and no model is trained on it. Raises InvalidRequest if the item has no such part."""
    judged = {category["category"]: category for category in verdict["categories"]} if verdict else {}
    part_names = [part["part"] for part in verdict["parts"]] if verdict else []
    if decision.part is not None and part_names and decision.part not in part_names:
        raise InvalidRequest(f"the item has no part {decision.part!r}; it has {', '.join(part_names)}")
    flagged = [name for name, category in judged.items() if category["flagged"]]
    holding = list(decision.categories) if decision.categories or decision.action == "allow" else flagged
    only_part = part_names[0] if len(part_names) == 1 else None
    whole = dict.fromkeys(holding, True)
    if decision.action == "allow":
        whole |= {category: False for category in judged if category not in holding}
    parts: dict[str, Truth] = {}
    for category in holding:
        part = decision.part or (judged[category]["part"] if category in flagged else only_part)
        if part is not None:
            parts.setdefault(part, {})[category] = True
    if decision.action == "remove":
        for category in flagged:
            if category not in holding:
                parts.setdefault(judged[category]["part"], {})[category] = False
    return whole, parts


def _last_actions(address: KafkaAddress, registry: SchemaIds) -> dict[str, dict[str, Any]]:
    """The current action for each item, by content id: its last one."""
    return {action["content_id"]: action for action in records(address, CONTENT_ACTIONS, registry)}


def _verdict(address: KafkaAddress, registry: SchemaIds, request_id: str) -> dict[str, Any] | None:
    admin, sent_ms = KafkaAdmin(address), time_ms_of(request_id)
    start: str | dict[tuple[str, int], int] = "first"
    if sent_ms is not None:
        name = MODERATION_VERDICTS.name
        places = [(name, number) for number in range(admin.partitions()[name])]
        start = admin.offsets_at(places, max(0, sent_ms - CLOCK_SKEW_MS))
    reader = KafkaBroadcast(address, MODERATION_VERDICTS.name, SystemClock(), start)
    polled = reader.read_to_end(READ_LIMIT_S)
    reader.close()
    verdicts = Readable(MODERATION_VERDICTS, registry, dict).of(polled)
    return next((verdict for verdict in verdicts if verdict["request_id"] == request_id), None)
