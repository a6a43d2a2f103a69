"""`./millrace review list | decide`: items that wait for a person, and what the person decides, as a label."""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from typing import Any

from infra import console
from infra.running import addresses
from infra.settings import StackSettings
from schemas.categories import CATEGORIES
from schemas.errors import InvalidRequest
from schemas.generated import Label
from schemas.topics import CONTENT_ACTIONS, LABELS, MODERATION_VERDICTS
from streams.clock import SystemClock
from streams.ids import time_ms_of, uuid7
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.readback import records
from streams.kafka.write import write
from streams.readable import Readable
from streams.record_writer import RecordWriter
from streams.terminal_text import as_json as spelt
from streams.terminal_text import moment

READ_LIMIT_S = 15.0


def _last_actions(settings: StackSettings) -> dict[str, dict[str, Any]]:
    """Of each item the action that holds: its last."""
    address, ids = addresses(settings)
    return {action["content_id"]: action for action in records(address, CONTENT_ACTIONS, ids)}


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


def decide(
    settings: StackSettings,
    content_id: str,
    action: str,
    truth: list[str],
    note: str | None,
    as_json: bool,
    part: str | None = None,
) -> None:
    """Write the decision as a label; `decisions` makes it the item's action. part: where the categories of `truth` hold. Raises InvalidRequest."""
    if action not in ("allow", "remove"):
        raise InvalidRequest(f"{action!r} is no decision: use allow or remove")
    unknown = set(truth) - set(CATEGORIES)
    if unknown:
        raise InvalidRequest(f"no category {', '.join(sorted(unknown))}; there are {', '.join(CATEGORIES)}")
    held = _last_actions(settings).get(content_id)
    if held is None:
        raise InvalidRequest(f"no action on {content_id} was ever taken: `./millrace review list` shows what waits")
    whole, parts = told(_verdict(settings, held["request_id"]), action, truth, part)
    now_ms = SystemClock().now_ms()
    label = Label(
        request_id=held["request_id"], source="review", task="moderation", truth=whole, parts=parts,
        content_id=content_id, author_id=held["author_id"], action=action, actor=getpass.getuser(), note=note, labelled_ms=now_ms,
    )  # fmt: skip
    address, ids = addresses(settings)
    write(address, RecordWriter(LABELS, ids, "review command").of(label, label.request_id, uuid7(now_ms)))
    if as_json:
        print(
            spelt(
                {
                    "content_id": content_id,
                    "action": action,
                    "request_id": label.request_id,
                    "truth": label.truth,
                    "parts": label.parts,
                }
            )
        )
    else:
        words = f"{content_id}: {action}, written to {LABELS.name}; it was {held['action']} by {held['decided_by']}"
        console.out.print(console.escape(words))
        unplaced = [category for category, holds in whole.items() if holds and not any(category in one for one in parts.values())]
        if unplaced:
            console.out.print(
                f"no model learns {', '.join(unplaced)} of it, as it is not known in which part that is: --part says it"
            )


def told(
    verdict: Mapping[str, Any] | None, action: str, holds: Sequence[str], part: str | None
) -> tuple[dict[str, bool], dict[str, dict[str, bool]]]:
    """What a decision says of the whole item, and of its parts by name: no more than what was looked at. verdict: None where it is there
    no longer. Allowed: none of what the models judged holds anywhere. Removed: what is named holds, or what was flagged where nothing is
    named; what was flagged and is not named does not. Where it is not known in which of several parts a category holds, it is said of the
    whole alone, and no model learns it. Pure. Raises InvalidRequest where the item has no such part."""
    judged = {one["category"]: one for one in verdict["categories"]} if verdict else {}
    names = [one["part"] for one in verdict["parts"]] if verdict else []
    if part is not None and names and part not in names:
        raise InvalidRequest(f"the item has no part {part!r}; it has {', '.join(names)}")
    flagged = [category for category, one in judged.items() if one["flagged"]]
    named = list(holds) if holds or action == "allow" else flagged
    whole = dict.fromkeys(named, True)
    if action == "allow":
        whole |= {category: False for category in judged if category not in named}
    parts: dict[str, dict[str, bool]] = {}
    for category in named:
        where = part or (judged[category]["part"] if category in flagged else names[0] if len(names) == 1 else None)
        if where is not None:
            parts.setdefault(where, {})[category] = True
    if action == "remove":
        for category in flagged:
            if category not in named:
                parts.setdefault(judged[category]["part"], {})[category] = False
    return whole, parts


def _verdict(settings: StackSettings, request_id: str) -> dict[str, Any] | None:
    address, ids = addresses(settings)
    admin, at_ms = KafkaAdmin(address), time_ms_of(request_id)
    start: str | dict[tuple[str, int], int] = "first"
    if at_ms is not None:
        name = MODERATION_VERDICTS.name
        start = admin.offsets_at([(name, n) for n in range(admin.partitions()[name])], max(0, at_ms - 5_000))
    reader = KafkaBroadcast(address, MODERATION_VERDICTS.name, SystemClock(), start)
    polled = reader.read_to_end(READ_LIMIT_S)
    reader.close()
    for verdict in Readable(MODERATION_VERDICTS, ids, dict).of(polled):
        if verdict["request_id"] == request_id:
            return verdict
    return None
