"""What the recorded topics hold: plain records by topic, in the order in which they were written. The same each time.

A field that the schema of the day lacks is left out, so that an earlier version's code can write them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Any

from schemas import avro
from schemas.durations import HOUR_MS, MINUTE_MS

T0_MS = 1_795_000_000_000 // 300_000 * 300_000


@dataclass(frozen=True)
class Written:
    topic: str
    key: str
    at_ms: int
    record: dict[str, Any]


def _record(name: str, **fields: Any) -> dict[str, Any]:
    """The first example of a record with other fields."""
    schema = avro.schema(name)
    example = avro.from_json(next(iter(avro.examples(name).values())), schema)
    return {
        field["name"]: _known(fields.get(field["name"], example.get(field["name"])), field["type"]) for field in schema["fields"]
    }


def _known(value: Any, kind: Any) -> Any:
    if isinstance(kind, dict) and kind["type"] == "array":
        return [_known(each, kind["items"]) for each in value]
    if isinstance(kind, dict) and kind["type"] == "record":
        return {field["name"]: _known(value.get(field["name"], field.get("default")), field["type"]) for field in kind["fields"]}
    return value


def verdicts() -> list[Written]:
    """Sixty content items: judged, failed and expired, of texts, pictures and videos, flagged and not."""
    random, made = Random(1), []
    for i in range(60):
        status = random.choice(["ok"] * 8 + ["failed", "expired"])
        parts = random.sample(["text", "image 1", "image 2", "video at 4.2 s"], random.randint(1, 3))
        categories = [
            {
                "category": category,
                "probability": probability,
                "threshold": 0.5,
                "flagged": probability > 0.5,
                "part": part,
                "model": "m",
                "version": "1",
            }
            for part in parts
            for category in random.sample(["spam", "hate", "violence", "self_harm"], 2)
            for probability in [random.choice([0.05, 0.3, 0.5, 0.55, 0.8, 0.94, 0.95, 0.96, 1.0])]
        ]
        record = _record(
            "moderation-verdict",
            request_id=f"r-{i}",
            status=status,
            content_id=None if i % 9 == 0 else f"c-{i}",
            author_id=f"a-{i % 5}",
            error_code=None if status == "ok" else random.choice(["media", "invalid", "deadline"]),
            categories=categories if status == "ok" else [],
            parts=[
                {
                    "part": part,
                    "error_code": random.choice([None] * 6 + ["media"]),
                    "error_message": None,
                    "unseen": None,
                    "models": [],
                    "looked_at": None,
                    "notes": [],
                }
                for part in parts
            ],
        )
        made.append(Written("moderation-verdicts-v1", f"key-{i}", T0_MS + i * 1000, record))
    return made


def findings() -> list[Written]:
    """Ninety findings of two models over three days; of every third, a run that ended some time later, whether it was asked for or not."""
    random, made = Random(2), []
    for i in range(90):
        at_ms, model = T0_MS + i * 45 * MINUTE_MS, f"m{i % 2}"
        trigger = random.choice(["ks", "psi", "chi_square", "volume"])
        event_id = f"{trigger}/{model}/1/s/{i // 3}"  # some come again
        event = _record(
            "drift-event",
            event_id=event_id,
            model=model,
            trigger=trigger,
            in_a_row=1 + i % 3,
            from_ms=at_ms - 10 * MINUTE_MS,
            to_ms=at_ms,
        )
        made.append(Written("drift-events-v1", model, at_ms, event))
        if i % 3 == 0:
            kind, later_ms = random.choice(["promoted", "refused", "failed"]), random.randint(1, 300) * MINUTE_MS
            end = _record("training-event", run_key=run_key(model, event_id), model=model, kind=kind, at_ms=at_ms + later_ms)
            made.append(Written("training-events-v1", model, at_ms + later_ms, end))
    request = _record(
        "training-request", run_key="by-hand", model="m1", causes=[], actor="ada", options={}, decided_ms=T0_MS + 30 * HOUR_MS
    )
    made.append(Written("training-requests-v1", "m1", T0_MS + 30 * HOUR_MS, request))
    return sorted(made, key=lambda each: each.at_ms)


def run_key(model: str, event_id: str) -> str:
    """As a decision names its run."""
    return f"{model}-{sha256(event_id.encode()).hexdigest()[:8]}"


ROLLOUT_MODEL = "recorded-spam"  # a model that is not shipped


def rollouts() -> list[Written]:
    """A version set by hand, then five candidates one after another: better, worse, refused by a worker, compared with another, unlabelled."""
    made: list[Written] = []
    update = _record(
        "model-update",
        model=ROLLOUT_MODEL,
        version="v1",
        uri="file:/v1",
        digest="v1",
        reason="by hand",
        actor="ada",
        decided_ms=T0_MS,
        challengers=[],
        kind="promotion",
    )
    made.append(Written("model-updates-v1", ROLLOUT_MODEL, T0_MS, update))
    hours: list[tuple[str, str, Callable[[int, str, str], list[Written]]]] = [
        ("v2", "v1", lambda at_ms, live, new: _answers(at_ms, live, new, 0.7, 0.95)),
        ("v3", "v2", lambda at_ms, live, new: _answers(at_ms, live, new, 0.95, 0.4)),
        ("v4", "v2", _refusal),
        ("v5", "v1", lambda at_ms, live, new: []),
        ("v6", "v2", lambda at_ms, live, new: _answers(at_ms, live, new, 0.9, 0.9, labelled=False)),
    ]
    for hour, (version, champion, follows) in enumerate(hours, 1):
        at_ms = T0_MS + hour * 4 * HOUR_MS
        facts = {"version": version, "uri": f"file:/{version}", "digest": version, "champion": champion}
        judged = _record("training-event", run_key=f"run-{version}", model=ROLLOUT_MODEL, kind="judged", facts=facts, at_ms=at_ms)
        made += [Written("training-events-v1", ROLLOUT_MODEL, at_ms, judged), *follows(at_ms + MINUTE_MS, champion, version)]
    return sorted(made, key=lambda each: each.at_ms)


def _refusal(at_ms: int, live: str, new: str) -> list[Written]:
    ack = _record("swap-ack", model=ROLLOUT_MODEL, version=new, worker="w-0", accepted=False, reason="it was cut", arm="canary")
    return [Written("swap-acks-v1", ROLLOUT_MODEL, at_ms, ack)]


def _answers(at_ms: int, live: str, new: str, live_right: float, new_right: float, *, labelled: bool = True) -> list[Written]:
    """Five batches of twelve requests through each version, and a label of each; unlabelled, one large batch of each."""
    random, made = Random(at_ms), []
    for batch in range(5 if labelled else 1):
        for arm, version, right in (("live", live, live_right), ("canary", new, new_right)):
            n, when_ms = 12 if labelled else 600, at_ms + batch * 5 * MINUTE_MS
            ids = [f"{new}{arm[0]}{batch}-{i}" for i in range(n)]
            outputs = [0.9 if random.random() < right else 0.1 for _ in ids]
            log = _record(
                "prediction-log",
                model=ROLLOUT_MODEL,
                version=version,
                digest=version,
                arm=arm,
                started_ms=when_ms,
                compute_ms=2.0,
                request_ids=ids,
                origin_partitions=bytes(4 * n),
                origin_offsets=bytes(8 * n),
                outputs=struct.pack(f"<{n}f", *outputs),
                outputs_dtype="<f4",
                outputs_shape=[n, 1],
                output_names=["spam"],
                thresholds=struct.pack("<f", 0.5),
                parts=[],
                signals=[],
                features=[],
            )
            made.append(Written("prediction-log-v1", ROLLOUT_MODEL, when_ms, log))
            for request_id in ids if labelled else ():
                label = _record(
                    "label",
                    request_id=request_id,
                    source="review",
                    task="moderation",
                    truth={"spam": True},
                    labelled_ms=when_ms,
                    content_id=None,
                    author_id=None,
                    note=None,
                    actor=None,
                    action=None,
                )
                made.append(Written("labels-v1", request_id, when_ms + MINUTE_MS, label))
    return made


def tiles() -> list[Written]:
    """Two users over eight days: tiles that come late, again, and in newer versions."""
    random, made, counts = Random(4), [], dict[tuple[str, int, str, str], int]()
    for i in range(200):
        came_ms = T0_MS + i * 57 * MINUTE_MS
        start_ms = (came_ms - random.choice([0, 0, 0, 5, 10, 90]) * MINUTE_MS) // 300_000 * 300_000
        if i % 7 == 6 or i % 10 == 4:  # an earlier tile again: one event richer, or as it was
            user, start_ms, session, item = random.choice(list(counts))
        else:
            user, session, item = f"u-{i % 2}", f"s-{i // 9}", random.choice(["", "i-1", "i-2", "i-3"])
        n = counts[user, start_ms, session, item] = counts.get((user, start_ms, session, item), 0) + (i % 10 != 4)
        bought = n // 2
        record = _record(
            "user-tile",
            user_id=user,
            tile_start_ms=start_ms,
            session_id=session,
            item_id=item,
            n=n,
            first_ms=start_ms + 1_000,
            last_ms=start_ms + 1_000 + n * 500,
            viewed=n - bought,
            carted=0,
            bought=bought,
            units=bought,
            revenue_cents=1_999 * bought,
            rated=n % 2,
            stars=4 * (n % 2),
        )
        made.append(Written("user-features-v1", user, came_ms, record))
    return made


SCENARIOS: dict[str, Callable[[], list[Written]]] = {
    "actions": verdicts,
    "drift_decisions": findings,
    "rollout_decisions": rollouts,
    "user_features": tiles,
}
