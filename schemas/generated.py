"""Written by `python -m schemas.generate` from `schemas/records/`. Not edited by hand."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """One content item that people see and that moderation judges.

    content_id: The item's own id; also the key of the record.
    text: The text as its author wrote it.
    author_id: Who wrote it.
    kind: Where it appears: comment, message, listing, review, post.
    """

    RECORD: ClassVar[str] = "content"

    content_id: str
    text: str | None = None
    author_id: str | None = None
    kind: str | None = None

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Content:
        return cls(
            content_id=d["content_id"],
            text=d["text"],
            author_id=d["author_id"],
            kind=d["kind"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelUpdate:
    """The state of a model from here on: the last record of a model is what every worker holds.

    model: Name of the model; also the key.
    version: Version that answers: live.
    uri: Where its folder lies: shipped:NAME or file:PATH.
    digest: sha256 of the folder's manifest.
    reason: Why, in words.
    actor: Who or what decided.
    decided_ms: When, milliseconds since the epoch.
    """

    RECORD: ClassVar[str] = "model-update"

    model: str
    version: str
    uri: str
    digest: str
    reason: str
    actor: str
    decided_ms: int

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> ModelUpdate:
        return cls(
            model=d["model"],
            version=d["version"],
            uri=d["uri"],
            digest=d["digest"],
            reason=d["reason"],
            actor=d["actor"],
            decided_ms=d["decided_ms"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelUse:
    """A model that had a part in a result.

    version: Version named in the model's folder.
    arm: live, canary or shadow.
    compute_ms: Time of the batch in this model, milliseconds.
    """

    name: str
    version: str
    arm: str
    compute_ms: float

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> ModelUse:
        return cls(
            name=d["name"],
            version=d["version"],
            arm=d["arm"],
            compute_ms=d["compute_ms"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FeatureUse:
    """A feature value that had a part in a result.

    event_time_ms: Event time of the value, milliseconds since the epoch.
    """

    name: str
    event_time_ms: int

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> FeatureUse:
        return cls(
            name=d["name"],
            event_time_ms=d["event_time_ms"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Deciding:
    """The part and category that weighed most.

    part: Which part of the item: text.
    """

    part: str
    category: str
    probability: float

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Deciding:
        return cls(
            part=d["part"],
            category=d["category"],
            probability=d["probability"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CategoryVerdict:
    """What the model says of one category.

    category: hate_speech, harassment, violence, sexual_content, self_harm, spam or misinformation.
    probability: 0 to 1.
    threshold: Flagged above it.
    """

    category: str
    probability: float
    threshold: float
    flagged: bool

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> CategoryVerdict:
        return cls(
            category=d["category"],
            probability=d["probability"],
            threshold=d["threshold"],
            flagged=d["flagged"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModerationVerdict:
    """The verdict on one content item.

    request_id: Id of the request: its ce_id header, or one made from topic, partition and offset.
    status: ok, refused, expired, failed or busy.
    error_code: Why there is no answer, as a short stable word.
    error_message: Why there is no answer, for a person.
    origin_topic: Topic of the request as it first came.
    redrive: 0, or the number of the redrive whose answer this is; it supersedes lower ones.
    batch_size: Number of requests computed together.
    queue_ms: From the broker's timestamp to the start of the batch, milliseconds.
    compute_ms: Time of the batch in the task, milliseconds.
    models: Models that made the result.
    features: Features that the models saw.
    content_id: Id of the item that was judged.
    flagged: True when any category passed its threshold.
    deciding: What decided: the category furthest past, or nearest to, its threshold.
    categories: Every category the model covers.
    not_covered: Categories that the model was not trained to tell.
    """

    RECORD: ClassVar[str] = "moderation-verdict"

    request_id: str
    status: str
    error_code: str | None = None
    error_message: str | None = None
    origin_topic: str
    origin_partition: int
    origin_offset: int
    redrive: int = 0
    batch_size: int = 0
    queue_ms: float = 0.0
    compute_ms: float = 0.0
    models: tuple[ModelUse, ...] = ()
    features: tuple[FeatureUse, ...] = ()
    content_id: str | None = None
    flagged: bool = False
    deciding: Deciding | None = None
    categories: tuple[CategoryVerdict, ...] = ()
    not_covered: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> ModerationVerdict:
        return cls(
            request_id=d["request_id"],
            status=d["status"],
            error_code=d["error_code"],
            error_message=d["error_message"],
            origin_topic=d["origin_topic"],
            origin_partition=d["origin_partition"],
            origin_offset=d["origin_offset"],
            redrive=d["redrive"],
            batch_size=d["batch_size"],
            queue_ms=d["queue_ms"],
            compute_ms=d["compute_ms"],
            models=tuple(ModelUse.from_dict(item) for item in d["models"]),
            features=tuple(FeatureUse.from_dict(item) for item in d["features"]),
            content_id=d["content_id"],
            flagged=d["flagged"],
            deciding=None if d["deciding"] is None else Deciding.from_dict(d["deciding"]),
            categories=tuple(CategoryVerdict.from_dict(item) for item in d["categories"]),
            not_covered=tuple(d["not_covered"]),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """A named number per request that drift detectors watch.

    values: float32 little-endian, one a request.
    """

    name: str
    values: bytes

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Signal:
        return cls(
            name=d["name"],
            values=d["values"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PredictionLog:
    """One batch through one model, columnar: entry i of each column belongs to request i.

    worker: Process that computed the batch.
    started_ms: Start of the batch, milliseconds since the epoch.
    compute_ms: Time of the batch in this model, milliseconds.
    origin_partitions: int32 little-endian, one a request.
    origin_offsets: int64 little-endian, one a request.
    outputs: The model's output, row-major.
    outputs_shape: First the number of requests.
    signals: Named drift signals.
    """

    RECORD: ClassVar[str] = "prediction-log"

    worker: str
    task: str
    model: str
    version: str
    arm: str
    started_ms: int
    compute_ms: float
    request_ids: tuple[str, ...]
    origin_topic: str
    origin_partitions: bytes
    origin_offsets: bytes
    outputs: bytes
    outputs_dtype: str
    outputs_shape: tuple[int, ...]
    signals: tuple[Signal, ...] = ()

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> PredictionLog:
        return cls(
            worker=d["worker"],
            task=d["task"],
            model=d["model"],
            version=d["version"],
            arm=d["arm"],
            started_ms=d["started_ms"],
            compute_ms=d["compute_ms"],
            request_ids=tuple(d["request_ids"]),
            origin_topic=d["origin_topic"],
            origin_partitions=d["origin_partitions"],
            origin_offsets=d["origin_offsets"],
            outputs=d["outputs"],
            outputs_dtype=d["outputs_dtype"],
            outputs_shape=tuple(d["outputs_shape"]),
            signals=tuple(Signal.from_dict(item) for item in d["signals"]),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FirstOffset:
    """First offset of a partition that the new version answers."""

    topic: str
    partition: int
    offset: int

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> FirstOffset:
        return cls(
            topic=d["topic"],
            partition=d["partition"],
            offset=d["offset"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SwapAck:
    """A worker has swapped a model, and says from which offsets on.

    accepted: False when the version was refused and the old one stays.
    reason: Why it was refused.
    loaded_ms: Time to load and warm it beside the old one, milliseconds.
    """

    RECORD: ClassVar[str] = "swap-ack"

    model: str
    version: str
    previous: str | None = None
    worker: str
    accepted: bool
    reason: str | None = None
    loaded_ms: float = 0.0
    first_offsets: tuple[FirstOffset, ...] = ()

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> SwapAck:
        return cls(
            model=d["model"],
            version=d["version"],
            previous=d["previous"],
            worker=d["worker"],
            accepted=d["accepted"],
            reason=d["reason"],
            loaded_ms=d["loaded_ms"],
            first_offsets=tuple(FirstOffset.from_dict(item) for item in d["first_offsets"]),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """What a process is doing, once a second.

    process: Its id; also the key.
    kind: worker or processor.
    state: starting, running, draining, stopped.
    at_ms: Milliseconds since the epoch.
    busy_share: Share of the last interval spent in the step, 0 to 1.
    versions: Live version of each model.
    """

    RECORD: ClassVar[str] = "worker-status"

    process: str
    kind: str
    task: str
    state: str
    at_ms: int
    pid: int
    metrics_address: str
    records_in: int
    records_out: int
    dead_letters: int
    retries: int
    expired: int
    batches: int
    busy_share: float
    in_flight: int
    paused_partitions: tuple[str, ...] = ()
    versions: dict[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> WorkerStatus:
        return cls(
            process=d["process"],
            kind=d["kind"],
            task=d["task"],
            state=d["state"],
            at_ms=d["at_ms"],
            pid=d["pid"],
            metrics_address=d["metrics_address"],
            records_in=d["records_in"],
            records_out=d["records_out"],
            dead_letters=d["dead_letters"],
            retries=d["retries"],
            expired=d["expired"],
            batches=d["batches"],
            busy_share=d["busy_share"],
            in_flight=d["in_flight"],
            paused_partitions=tuple(d["paused_partitions"]),
            versions=d["versions"],
        )
