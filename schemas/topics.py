"""Every topic of Millrace, once. Provisioning, dead-letter and retry names, checks and tests derive from this page.

A new topic is one block here, brought by the work that writes and reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from schemas.errors import BadSettings
from schemas.generated import (
    Content,
    ContentAction,
    Item,
    ItemTile,
    Label,
    ModelUpdate,
    ModerationVerdict,
    PredictionLog,
    SwapAck,
    TranscriptionRequest,
    TranscriptionResult,
    TranslationRequest,
    TranslationResult,
    UserEvent,
    UserProfile,
    UserTile,
    VisionRequest,
    VisionResult,
    WorkerStatus,
)

R = TypeVar("R", covariant=True)

KIB = 1024
DAY_MS = 24 * 3600 * 1000
FOREVER_MS = -1
MAX_NAME_CHARS = 249  # Kafka's own limit


class Guarantee(Enum):
    """What a read_committed reader may rely on."""

    NONE = "none"  # written by producers that are not ours
    EXACTLY_ONCE = "exactly once"  # one Kafka transaction with the offsets that it came from
    AT_LEAST_ONCE = "at least once"  # repeats carry the same request id and input offset


class Compatibility(Enum):
    """Schema Registry compatibility levels that we use."""

    FULL_TRANSITIVE = "FULL_TRANSITIVE"  # a reader or a writer is not ours
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"  # inside


class Order(Enum):
    RELAXED = "relaxed"  # a record that must wait goes to a retry topic; later ones pass it
    STRICT = "strict"  # it is retried in place, and its partition waits


@dataclass(frozen=True, kw_only=True)
class Topic(Generic[R]):
    """One topic. `record` is None where values keep the schema of the topic that they are copies of."""

    name: str
    record: type[R] | None
    key: str
    partitions: int
    retention_ms: int
    guarantee: Guarantee
    compatibility: Compatibility
    owner: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    order: Order = Order.RELAXED
    max_record_bytes: int = 1024 * KIB
    compacted: bool = False  # the last record of each key is kept, whatever its age

    @property
    def subject(self) -> str:
        return f"{self.name}-value"


@dataclass(frozen=True, kw_only=True)
class Consumption:
    """A group of ours that reads a topic through the loop: it has retry and dead-letter topics there."""

    topic: Topic[object]
    group: str  # also the name of the task, where a worker reads it
    retry_delays_ms: tuple[int, ...]
    results: Topic[object] | None = None
    key_field: str = ""  # of the record, where clients take the key from it

    def retry_topics(self) -> tuple[str, ...]:
        return tuple(retry_name(self.topic.name, self.group, delay_ms) for delay_ms in self.retry_delays_ms)

    @property
    def dead_letter_topic(self) -> str:
        return dead_letter_name(self.topic.name, self.group)


def retry_name(topic: str, group: str, delay_ms: int) -> str:
    delay = f"{delay_ms // 1000}s" if delay_ms % 1000 == 0 else f"{delay_ms}ms"
    return _checked(f"{topic}-{group}-retry-{delay}")


def dead_letter_name(topic: str, group: str) -> str:
    return _checked(f"{topic}-{group}-dlq")


def _checked(name: str) -> str:
    if len(name) > MAX_NAME_CHARS:
        raise BadSettings(f"topic name {name[:40]}… has {len(name)} characters; Kafka allows {MAX_NAME_CHARS}")
    return name


CONTENT = Topic(
    name="content-v1",
    record=Content,
    key="content_id",
    partitions=4,
    retention_ms=7 * DAY_MS,
    guarantee=Guarantee.NONE,
    compatibility=Compatibility.FULL_TRANSITIVE,
    owner="moderation",
    writers=("producers",),
    readers=("moderation worker",),
)
MODERATION_VERDICTS = Topic(
    name="moderation-verdicts-v1",
    record=ModerationVerdict,
    key="content_id, as the request's key",
    partitions=4,
    retention_ms=7 * DAY_MS,
    guarantee=Guarantee.EXACTLY_ONCE,
    compatibility=Compatibility.FULL_TRANSITIVE,
    owner="moderation",
    writers=("moderation worker",),
    readers=("clients", "policy", "sinks"),
)
CONTENT_ACTIONS = Topic(
    name="content-actions-v1",
    record=ContentAction,
    key="content_id",
    partitions=4,
    retention_ms=90 * DAY_MS,
    guarantee=Guarantee.EXACTLY_ONCE,
    compatibility=Compatibility.FULL_TRANSITIVE,
    owner="moderation",
    writers=("policy", "decisions"),
    readers=("producers", "strikes view", "review command"),
)
LABELS = Topic(
    name="labels-v1",
    record=Label,
    key="request_id",
    partitions=4,
    retention_ms=90 * DAY_MS,
    guarantee=Guarantee.AT_LEAST_ONCE,
    compatibility=Compatibility.FULL_TRANSITIVE,
    owner="moderation",
    writers=("producers", "review command"),
    readers=("decisions",),
)
VISION_REQUESTS = Topic(
    name="vision-requests-v1",
    record=VisionRequest,
    key="the caller's",
    partitions=4,
    retention_ms=7 * DAY_MS,
    guarantee=Guarantee.NONE,
    compatibility=Compatibility.FULL_TRANSITIVE,
    owner="vision",
    writers=("producers",),
    readers=("vision worker",),
)
VISION_RESULTS = Topic(
    name="vision-results-v1",
    record=VisionResult,
    key="as the request's key",
    partitions=4,
    retention_ms=7 * DAY_MS,
    guarantee=Guarantee.EXACTLY_ONCE,
    compatibility=Compatibility.FULL_TRANSITIVE,
    owner="vision",
    writers=("vision worker",),
    readers=("clients", "sinks"),
)
TRANSLATION_REQUESTS = Topic(
    name="translation-requests-v1",
    record=TranslationRequest,
    key="the caller's",
    partitions=4,
    retention_ms=7 * DAY_MS,
    guarantee=Guarantee.NONE,
    compatibility=Compatibility.FULL_TRANSITIVE,
    owner="translation",
    writers=("producers",),
    readers=("translation worker",),
)
TRANSLATION_RESULTS = Topic(
    name="translation-results-v1",
    record=TranslationResult,
    key="as the request's key",
    partitions=4,
    retention_ms=7 * DAY_MS,
    guarantee=Guarantee.EXACTLY_ONCE,
    compatibility=Compatibility.FULL_TRANSITIVE,
    owner="translation",
    writers=("translation worker",),
    readers=("clients", "sinks"),
)
TRANSCRIPTION_REQUESTS = Topic(
    name="transcription-requests-v1",
    record=TranscriptionRequest,
    key="the caller's",
    partitions=4,
    retention_ms=7 * DAY_MS,
    guarantee=Guarantee.NONE,
    compatibility=Compatibility.FULL_TRANSITIVE,
    owner="transcription",
    writers=("producers",),
    readers=("transcription worker",),
)
TRANSCRIPTION_RESULTS = Topic(
    name="transcription-results-v1",
    record=TranscriptionResult,
    key="as the request's key",
    partitions=4,
    retention_ms=7 * DAY_MS,
    guarantee=Guarantee.EXACTLY_ONCE,
    compatibility=Compatibility.FULL_TRANSITIVE,
    owner="transcription",
    writers=("transcription worker",),
    readers=("clients", "sinks"),
)
USER_EVENTS = Topic(
    name="user-events-v1",
    record=UserEvent,
    key="user_id",
    partitions=4,
    retention_ms=7 * DAY_MS,
    guarantee=Guarantee.NONE,
    compatibility=Compatibility.FULL_TRANSITIVE,
    owner="features",
    writers=("producers", "generator", "replay command"),
    readers=("validate",),
)
USER_EVENTS_VALID = Topic(
    name="user-events-valid-v1",
    record=UserEvent,
    key="user_id",
    partitions=4,
    retention_ms=30 * DAY_MS,
    guarantee=Guarantee.EXACTLY_ONCE,
    compatibility=Compatibility.BACKWARD_TRANSITIVE,
    owner="features",
    writers=("validate",),
    readers=("tiles job", "archive"),
)
LATE_EVENTS = Topic(
    name="late-events-v1",
    record=UserEvent,
    key="user_id",
    partitions=4,
    retention_ms=90 * DAY_MS,
    guarantee=Guarantee.EXACTLY_ONCE,
    compatibility=Compatibility.BACKWARD_TRANSITIVE,
    owner="features",
    writers=("validate",),
    readers=("operator",),
)
USER_PROFILES = Topic(
    name="user-profiles-v1",
    record=UserProfile,
    key="user_id",
    partitions=4,
    retention_ms=FOREVER_MS,
    guarantee=Guarantee.NONE,
    compatibility=Compatibility.FULL_TRANSITIVE,
    owner="features",
    writers=("producers", "generator", "replay command"),
    readers=("feature sink",),
    compacted=True,
)
ITEMS = Topic(
    name="items-v1",
    record=Item,
    key="item_id",
    partitions=4,
    retention_ms=FOREVER_MS,
    guarantee=Guarantee.NONE,
    compatibility=Compatibility.FULL_TRANSITIVE,
    owner="features",
    writers=("producers", "generator", "replay command"),
    readers=("feature sink",),
    compacted=True,
)
USER_FEATURES = Topic(
    name="user-features-v1",
    record=UserTile,
    key="user_id",
    partitions=4,
    retention_ms=FOREVER_MS,  # totals of all time are rebuilt from it
    guarantee=Guarantee.AT_LEAST_ONCE,
    compatibility=Compatibility.BACKWARD_TRANSITIVE,
    owner="features",
    writers=("tiles job",),
    readers=("feature sink",),
)
ITEM_FEATURES = Topic(
    name="item-features-v1",
    record=ItemTile,
    key="item_id",
    partitions=4,
    retention_ms=FOREVER_MS,
    guarantee=Guarantee.AT_LEAST_ONCE,
    compatibility=Compatibility.BACKWARD_TRANSITIVE,
    owner="features",
    writers=("tiles job",),
    readers=("feature sink",),
)
REPLIES: Topic[object] = Topic(
    name="replies-v1",
    record=None,
    key="as the request's key",
    partitions=32,
    retention_ms=DAY_MS,
    guarantee=Guarantee.AT_LEAST_ONCE,
    compatibility=Compatibility.FULL_TRANSITIVE,
    owner="streams",
    writers=("workers",),
    readers=("clients",),
)
PREDICTION_LOG = Topic(
    name="prediction-log-v1",
    record=PredictionLog,
    key="worker",
    partitions=4,
    retention_ms=7 * DAY_MS,
    guarantee=Guarantee.EXACTLY_ONCE,
    compatibility=Compatibility.BACKWARD_TRANSITIVE,
    owner="inference_workers",
    writers=("workers",),
    readers=("request command",),
)
MODEL_UPDATES = Topic(
    name="model-updates-v1",
    record=ModelUpdate,
    key="model",
    partitions=1,
    retention_ms=FOREVER_MS,
    guarantee=Guarantee.AT_LEAST_ONCE,
    compatibility=Compatibility.FULL_TRANSITIVE,
    owner="training_triggers",
    writers=("models command",),
    readers=("workers", "reconcile"),
)
SWAP_ACKS = Topic(
    name="swap-acks-v1",
    record=SwapAck,
    key="model",
    partitions=1,
    retention_ms=7 * DAY_MS,
    guarantee=Guarantee.EXACTLY_ONCE,
    compatibility=Compatibility.BACKWARD_TRANSITIVE,
    owner="inference_workers",
    writers=("workers",),
    readers=("models command",),
)
WORKER_STATUS = Topic(
    name="worker-status-v1",
    record=WorkerStatus,
    key="process",
    partitions=1,
    retention_ms=3600 * 1000,
    guarantee=Guarantee.AT_LEAST_ONCE,
    compatibility=Compatibility.BACKWARD_TRANSITIVE,
    owner="streams",
    writers=("workers", "policy"),
    readers=("status command",),
)

CATALOGUE: tuple[Topic[object], ...] = (
    CONTENT,
    MODERATION_VERDICTS,
    CONTENT_ACTIONS,
    LABELS,
    VISION_REQUESTS,
    VISION_RESULTS,
    TRANSLATION_REQUESTS,
    TRANSLATION_RESULTS,
    TRANSCRIPTION_REQUESTS,
    TRANSCRIPTION_RESULTS,
    USER_EVENTS,
    USER_EVENTS_VALID,
    LATE_EVENTS,
    USER_PROFILES,
    ITEMS,
    USER_FEATURES,
    ITEM_FEATURES,
    REPLIES,
    PREDICTION_LOG,
    MODEL_UPDATES,
    SWAP_ACKS,
    WORKER_STATUS,
)

RETRY_DELAYS_MS = (1_000, 10_000)

# What clients ask for: a worker answers each.
TASKS: tuple[Consumption, ...] = (
    Consumption(
        topic=CONTENT,
        group="moderation",
        retry_delays_ms=RETRY_DELAYS_MS,
        results=MODERATION_VERDICTS,
        key_field="content_id",
    ),
    Consumption(topic=VISION_REQUESTS, group="vision", retry_delays_ms=RETRY_DELAYS_MS, results=VISION_RESULTS),
    Consumption(topic=TRANSLATION_REQUESTS, group="translation", retry_delays_ms=RETRY_DELAYS_MS, results=TRANSLATION_RESULTS),
    Consumption(
        topic=TRANSCRIPTION_REQUESTS, group="transcription", retry_delays_ms=RETRY_DELAYS_MS, results=TRANSCRIPTION_RESULTS
    ),
)
# What processors make of records on the way.
POLICY = Consumption(topic=MODERATION_VERDICTS, group="policy", retry_delays_ms=RETRY_DELAYS_MS, results=CONTENT_ACTIONS)
DECISIONS = Consumption(topic=LABELS, group="decisions", retry_delays_ms=RETRY_DELAYS_MS, results=CONTENT_ACTIONS)

VALIDATE = Consumption(topic=USER_EVENTS, group="validate", retry_delays_ms=RETRY_DELAYS_MS, results=USER_EVENTS_VALID)
# What keeps the stores of features. No retries: a tile that cannot be read is set aside, everything else waits.
USER_SINK = Consumption(topic=USER_FEATURES, group="user-sink", retry_delays_ms=())
ITEM_SINK = Consumption(topic=ITEM_FEATURES, group="item-sink", retry_delays_ms=())
ARCHIVE = Consumption(topic=USER_EVENTS_VALID, group="archive", retry_delays_ms=())

CONSUMPTIONS: tuple[Consumption, ...] = (*TASKS, POLICY, DECISIONS, VALIDATE, USER_SINK, ITEM_SINK, ARCHIVE)


def topic(name: str) -> Topic[object]:
    """Raises BadSettings where the catalogue has no such topic."""
    for candidate in CATALOGUE:
        if candidate.name == name:
            return candidate
    raise BadSettings(f"no topic {name} in schemas/topics.py; it has {', '.join(t.name for t in CATALOGUE)}")


def consumption(task: str) -> Consumption:
    """Raises BadSettings where no task has that name."""
    for candidate in TASKS:
        if candidate.group == task:
            return candidate
    raise BadSettings(f"no task {task!r}; there are: {', '.join(c.group for c in TASKS)}")
