"""Written by `python -m schemas.generate` from `schemas/records/`. Not edited by hand."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Something that a person did to the system, written in the transaction of what it did where that is records.

    audit_id: UUIDv7.
    actor: Who, as the person said; also the key.
    role: What the token allowed: operator or releaser.
    action: redrive, produce, promote, rollback, challenge, train or restart.
    subject: The topic, model or connector that it was done to.
    positions: The records that it was done to: topic/partition/offset.
    words: What was done and why, for people.
    outcome: done, or failed with its cause in words.
    at_ms: Milliseconds since the epoch.
    """

    RECORD: ClassVar[str] = "audit-entry"

    audit_id: str
    actor: str
    role: str
    action: str
    subject: str
    positions: tuple[str, ...] = ()
    words: str
    outcome: str
    at_ms: int

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> AuditEntry:
        return cls(
            audit_id=d["audit_id"],
            actor=d["actor"],
            role=d["role"],
            action=d["action"],
            subject=d["subject"],
            positions=tuple(d["positions"]),
            words=d["words"],
            outcome=d["outcome"],
            at_ms=d["at_ms"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChatControl:
    """What becomes of a request that is under way.

    action: cancel.
    reason: For people.
    """

    RECORD: ClassVar[str] = "chat-control"

    request_id: str
    action: str
    reason: str | None = None

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> ChatControl:
        return cls(
            request_id=d["request_id"],
            action=d["action"],
            reason=d["reason"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """A turn of a conversation.

    role: system, user or assistant.
    """

    role: str
    content: str

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> ChatMessage:
        return cls(
            role=d["role"],
            content=d["content"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A conversation that a language model continues.

    messages: The whole conversation, oldest first. Empty if there is a prompt.
    prompt: A text that the model continues as it stands, without a chat template; instead of messages.
    temperature: 0 takes the most probable token; up to 2.
    top_p: Probability mass that tokens are chosen from, above 0 and at most 1.
    max_tokens: Most tokens of the answer.
    stop: Texts that end the answer and are no part of it; at most 16.
    seed: Equal seeds give equal answers. Null: made from the request id.
    logprobs: How many alternatives each token names, with log-probabilities; 0 for none, at most 20.
    response_schema: A JSON schema, as JSON, that the answer obeys.
    conversation_id: Names the conversation. With continues it is the key of the record too.
    continues: Whether messages are only what is new: the earlier turns of conversation_id, as they were answered, come before them.
    """

    RECORD: ClassVar[str] = "chat-request"

    messages: tuple[ChatMessage, ...] = ()
    prompt: str | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    seed: int | None = None
    logprobs: int = 0
    response_schema: str | None = None
    conversation_id: str | None = None
    continues: bool = False

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> ChatRequest:
        return cls(
            messages=tuple(ChatMessage.from_dict(item) for item in d["messages"]),
            prompt=d["prompt"],
            temperature=d["temperature"],
            top_p=d["top_p"],
            max_tokens=d["max_tokens"],
            stop=tuple(d["stop"]),
            seed=d["seed"],
            logprobs=d["logprobs"],
            response_schema=d["response_schema"],
            conversation_id=d["conversation_id"],
            continues=d["continues"],
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
class ChatResult:
    """The answer of a language model.

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
    text: The whole answer; where it was cut short, what there was of it.
    finish_reason: stop, length, cancelled, expired or content_filter.
    prompt_tokens: Tokens of the prompt.
    completion_tokens: Tokens of the answer, with the token that ends the turn.
    cached_tokens: Tokens of the prompt that the prefix cache held.
    truncated_messages: How many of the oldest messages were left out, because they did not fit.
    time_to_first_token_ms: From the broker's timestamp of the request to the first token, milliseconds.
    ms_per_token: Mean time between tokens, milliseconds.
    attempt: The attempt on chat-tokens-v1 that ended the answer.
    retry_after_ms: Where the status is busy: when room is likely, milliseconds from the answer.
    conversation_id: As in the request.
    asked: The messages of a request that continues a conversation: with the text they are its next turns.
    history_messages: How many earlier messages of the conversation were put before those of the request.
    """

    RECORD: ClassVar[str] = "chat-result"

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
    text: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    truncated_messages: int = 0
    time_to_first_token_ms: float = 0.0
    ms_per_token: float = 0.0
    attempt: int = 0
    retry_after_ms: int = 0
    conversation_id: str | None = None
    asked: tuple[ChatMessage, ...] = ()
    history_messages: int = 0

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> ChatResult:
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
            text=d["text"],
            finish_reason=d["finish_reason"],
            prompt_tokens=d["prompt_tokens"],
            completion_tokens=d["completion_tokens"],
            cached_tokens=d["cached_tokens"],
            truncated_messages=d["truncated_messages"],
            time_to_first_token_ms=d["time_to_first_token_ms"],
            ms_per_token=d["ms_per_token"],
            attempt=d["attempt"],
            retry_after_ms=d["retry_after_ms"],
            conversation_id=d["conversation_id"],
            asked=tuple(ChatMessage.from_dict(item) for item in d["asked"]),
            history_messages=d["history_messages"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChatAlternative:
    """A probable token at the same position."""

    token: int
    text: str
    logprob: float

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> ChatAlternative:
        return cls(
            token=d["token"],
            text=d["text"],
            logprob=d["logprob"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChatToken:
    """A token of an answer.

    token: Its id in the model's vocabulary.
    text: What it adds to the answer: whole characters, empty while one is incomplete.
    logprob: Natural logarithm of its probability.
    """

    token: int
    text: str
    logprob: float | None = None
    alternatives: tuple[ChatAlternative, ...] = ()

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> ChatToken:
        return cls(
            token=d["token"],
            text=d["text"],
            logprob=d["logprob"],
            alternatives=tuple(ChatAlternative.from_dict(item) for item in d["alternatives"]),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChatTokens:
    """A part of an answer as it is made: tokens in order, from a position on. Readers take the highest attempt, and drop what they have: docs/tasks/chat.md.

    attempt: Rises with each worker that takes the answer over, not always by one. Once a record of an attempt was read, those of lower attempts count no more.
    sequence: Position in the answer of the first token here, from 0. Without tokens it has no meaning.
    tokens: Empty in the first record of an attempt.
    last: Whether the answer ends here.
    finish_reason: In the last record: stop, length, cancelled, expired, content_filter, failed or busy.
    error_message: In the last record of an answer that failed: the cause.
    error_code: In the last record of an answer without a text: the code of its result.
    retry_after_ms: In the last record of an answer that is busy: as in its result.
    model: Name of the model.
    version: Version named in the model's folder.
    prompt_tokens: Tokens of the prompt.
    completion_tokens: Tokens of the answer, with the token that ends the turn.
    cached_tokens: Tokens of the prompt that the prefix cache held.
    truncated_messages: How many of the oldest messages were left out, because they did not fit.
    time_to_first_token_ms: From the broker's timestamp of the request to the first token, milliseconds.
    ms_per_token: Mean time between tokens, milliseconds.
    made_ms: When the last token here was made, milliseconds since the epoch.
    """

    RECORD: ClassVar[str] = "chat-tokens"

    request_id: str
    attempt: int
    sequence: int
    tokens: tuple[ChatToken, ...] = ()
    last: bool = False
    finish_reason: str | None = None
    error_message: str | None = None
    error_code: str | None = None
    retry_after_ms: int = 0
    model: str = ""
    version: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    truncated_messages: int = 0
    time_to_first_token_ms: float = 0.0
    ms_per_token: float = 0.0
    made_ms: int = 0

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> ChatTokens:
        return cls(
            request_id=d["request_id"],
            attempt=d["attempt"],
            sequence=d["sequence"],
            tokens=tuple(ChatToken.from_dict(item) for item in d["tokens"]),
            last=d["last"],
            finish_reason=d["finish_reason"],
            error_message=d["error_message"],
            error_code=d["error_code"],
            retry_after_ms=d["retry_after_ms"],
            model=d["model"],
            version=d["version"],
            prompt_tokens=d["prompt_tokens"],
            completion_tokens=d["completion_tokens"],
            cached_tokens=d["cached_tokens"],
            truncated_messages=d["truncated_messages"],
            time_to_first_token_ms=d["time_to_first_token_ms"],
            ms_per_token=d["ms_per_token"],
            made_ms=d["made_ms"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """An image, a video or a sound: inline up to 512 KiB, above that by reference (a claim check).

    data: The file itself; null where it travels by reference.
    uri: Where it lies, under a root or bucket that workers allow: file:// or s3://.
    sha256: Digest of the file, hexadecimal; required with uri.
    size: Bytes of the file; required with uri.
    """

    data: bytes | None = None
    uri: str | None = None
    sha256: str | None = None
    size: int | None = None

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Media:
        return cls(
            data=d["data"],
            uri=d["uri"],
            sha256=d["sha256"],
            size=d["size"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """A video, as Media: Avro wants a name for each use.

    data: The file itself; null where it travels by reference.
    uri: Where it lies, under a root or bucket that workers allow: file:// or s3://.
    sha256: Digest of the file, hexadecimal; required with uri.
    size: Bytes of the file; required with uri.
    """

    data: bytes | None = None
    uri: str | None = None
    sha256: str | None = None
    size: int | None = None

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Video:
        return cls(
            data=d["data"],
            uri=d["uri"],
            sha256=d["sha256"],
            size=d["size"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """One content item that people see and that moderation judges.

    content_id: The item's own id; also the key of the record.
    text: The text as its author wrote it.
    author_id: Who wrote it.
    kind: Where it appears: comment, message, listing, review, post.
    images: Its pictures, in the order people see them.
    video: Its video.
    """

    RECORD: ClassVar[str] = "content"

    content_id: str
    text: str | None = None
    author_id: str | None = None
    kind: str | None = None
    images: tuple[Media, ...] = ()
    video: Video | None = None

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Content:
        return cls(
            content_id=d["content_id"],
            text=d["text"],
            author_id=d["author_id"],
            kind=d["kind"],
            images=tuple(Media.from_dict(item) for item in d["images"]),
            video=None if d["video"] is None else Video.from_dict(d["video"]),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ContentAction:
    """What is to happen to a content item: the last action of an item holds.

    content_id: The item; also the key.
    action: allow, review or remove.
    reasons: Why, each a rule and what met it: spam 0.97 in image 2 passes 0.95.
    decided_by: policy, or the reviewer.
    request_id: Request whose verdict led to it.
    policy: Digest of the rules that were in force; empty for a reviewer.
    decided_ms: When, milliseconds since the epoch: the broker's time of the record that led to it.
    """

    RECORD: ClassVar[str] = "content-action"

    content_id: str
    author_id: str | None = None
    action: str
    reasons: tuple[str, ...] = ()
    decided_by: str
    request_id: str
    policy: str = ""
    decided_ms: int

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> ContentAction:
        return cls(
            content_id=d["content_id"],
            author_id=d["author_id"],
            action=d["action"],
            reasons=tuple(d["reasons"]),
            decided_by=d["decided_by"],
            request_id=d["request_id"],
            policy=d["policy"],
            decided_ms=d["decided_ms"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DriftEvent:
    """What a trigger found in one window of one signal of one model version.

    event_id: trigger/model/version/signal/window: the same finding has the same id.
    model: Also the key.
    trigger: File of training_triggers/triggers; renew where a person asked for a new baseline.
    signal: What was compared.
    p_value: After correction for the number of signals; absent where the trigger has a threshold of its own.
    effect: Size of the change, in the trigger's own measure.
    least_effect: From this size on it counts.
    in_a_row: Windows in a row that fired, this one included.
    window: Number of the window since the baseline, from 1.
    window_n: Entries of the window.
    baseline_n: Entries of the baseline.
    from_ms: Start of the first batch of the window; epoch.
    to_ms: Start of its last batch; epoch.
    baseline_ms: Time that the baseline spans, milliseconds.
    baseline_missing: Share of the baseline's entries that are no finite number; the mean is of the others.
    window_missing: The same of the window.
    """

    RECORD: ClassVar[str] = "drift-event"

    event_id: str
    model: str
    version: str
    trigger: str
    signal: str
    statistic: float
    p_value: float | None = None
    effect: float
    least_effect: float
    in_a_row: int
    window: int
    window_n: int
    baseline_n: int
    baseline_mean: float
    window_mean: float
    from_ms: int
    to_ms: int
    baseline_ms: int = 0
    baseline_missing: float = 0.0
    window_missing: float = 0.0

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> DriftEvent:
        return cls(
            event_id=d["event_id"],
            model=d["model"],
            version=d["version"],
            trigger=d["trigger"],
            signal=d["signal"],
            statistic=d["statistic"],
            p_value=d["p_value"],
            effect=d["effect"],
            least_effect=d["least_effect"],
            in_a_row=d["in_a_row"],
            window=d["window"],
            window_n=d["window_n"],
            baseline_n=d["baseline_n"],
            baseline_mean=d["baseline_mean"],
            window_mean=d["window_mean"],
            from_ms=d["from_ms"],
            to_ms=d["to_ms"],
            baseline_ms=d["baseline_ms"],
            baseline_missing=d["baseline_missing"],
            window_missing=d["window_missing"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DriftState:
    """What the detector holds of one model version, as of the offsets that were committed with it.

    detector: Group of the detector; key: detector/model/version.
    signals: Names of the columns.
    baseline: float32 little-endian, (entries, signals): as many of each window of its span.
    window: float32 little-endian, (entries, signals): the window that is filling.
    windows: Complete windows so far.
    streaks: By trigger/signal: windows in a row that fired; of what is due by count or time, how often it was.
    from_ms: Start of the first batch of the window that is filling; epoch.
    seen_ms: Start of the last batch; epoch.
    first_ms: Start of the version's first batch; epoch.
    rules: Version of the rules that it was made under; 0 is before there were any.
    asked_n: Entries of a window that were asked for when the baseline began.
    window_n: Entries of a window: fewer than asked for where so many signals would not fit a record.
    entries: Seen of this version, with those before the baseline began.
    began: Windows that were complete when the baseline began.
    settled: Whether the baseline spans its time; from then on it does not change.
    since_ms: Start of the baseline's first batch; epoch.
    until_ms: Start of the last batch that the baseline learnt from; epoch.
    spread_windows: Windows that the baseline was drawn from.
    spread: float64 little-endian, (rows, signals): how the baseline's windows differ among themselves.
    ignored: Columns that came and are not watched: not all batches had them, or the baseline began without them.
    note: Why the baseline began anew or was cut, for people.
    """

    RECORD: ClassVar[str] = "drift-state"

    detector: str
    model: str
    version: str
    signals: tuple[str, ...]
    baseline: bytes
    window: bytes
    windows: int
    streaks: dict[str, int]
    from_ms: int
    seen_ms: int
    first_ms: int = 0
    rules: int = 0
    asked_n: int = 0
    window_n: int = 0
    entries: int = 0
    began: int = 0
    settled: bool = False
    since_ms: int = 0
    until_ms: int = 0
    spread_windows: int = 0
    spread: bytes = b""
    ignored: tuple[str, ...] = ()
    note: str = ""

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> DriftState:
        return cls(
            detector=d["detector"],
            model=d["model"],
            version=d["version"],
            signals=tuple(d["signals"]),
            baseline=d["baseline"],
            window=d["window"],
            windows=d["windows"],
            streaks=d["streaks"],
            from_ms=d["from_ms"],
            seen_ms=d["seen_ms"],
            first_ms=d["first_ms"],
            rules=d["rules"],
            asked_n=d["asked_n"],
            window_n=d["window_n"],
            entries=d["entries"],
            began=d["began"],
            settled=d["settled"],
            since_ms=d["since_ms"],
            until_ms=d["until_ms"],
            spread_windows=d["spread_windows"],
            spread=d["spread"],
            ignored=tuple(d["ignored"]),
            note=d["note"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingResult:
    """The embedding of a text.

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
    embedding: The vector; its length is the model's.
    truncated: Whether the text was longer than the model's limit, so that its end was left out.
    space: What made the vector: 16 hexadecimal digits of the digest of the model's files and of the options that change vectors. Only vectors of one space can be compared.
    """

    RECORD: ClassVar[str] = "embedding-result"

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
    embedding: tuple[float, ...] = ()
    truncated: bool = False
    space: str = ""

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> EmbeddingResult:
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
            embedding=tuple(d["embedding"]),
            truncated=d["truncated"],
            space=d["space"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An item of the catalogue. The last record of a key is the truth.

    item_id: The key.
    price_cents: In hundredths of the currency.
    updated_ms: Epoch.
    """

    RECORD: ClassVar[str] = "item"

    item_id: str
    title: str
    category: str
    price_cents: int | None = None
    updated_ms: int

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Item:
        return cls(
            item_id=d["item_id"],
            title=d["title"],
            category=d["category"],
            price_cents=d["price_cents"],
            updated_ms=d["updated_ms"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ItemTile:
    """What happened to an item in five minutes, so far: tiles are merged by adding, n says which of two is newer.

    item_id: The key.
    tile_start_ms: First millisecond of the five minutes; epoch.
    n: Events counted: rises with each version of the tile.
    first_ms: Time of the first event.
    last_ms: Time of the last event.
    viewed: Events of kind view.
    carted: Events of kind cart.
    bought: Events of kind purchase.
    units: Pieces bought.
    rated: Events that carry a rating.
    stars: Stars, added up.
    """

    RECORD: ClassVar[str] = "item-tile"

    item_id: str
    tile_start_ms: int
    n: int
    first_ms: int
    last_ms: int
    viewed: int
    carted: int
    bought: int
    units: int
    revenue_cents: int
    rated: int
    stars: int

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> ItemTile:
        return cls(
            item_id=d["item_id"],
            tile_start_ms=d["tile_start_ms"],
            n=d["n"],
            first_ms=d["first_ms"],
            last_ms=d["last_ms"],
            viewed=d["viewed"],
            carted=d["carted"],
            bought=d["bought"],
            units=d["units"],
            revenue_cents=d["revenue_cents"],
            rated=d["rated"],
            stars=d["stars"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """The truth about a request, whenever somebody learns it. The newest word of it counts; `prediction-outcomes-v1` has the first of each request and source.

    request_id: The request that it is about; also the key.
    source: Who says so: review, or a producer's own word.
    task: moderation, vision, …
    truth: What holds and what does not, by category or class: of the whole request. That it holds says not in which of several parts.
    text: The right text, for translation and transcription.
    content_id: The content item, for moderation.
    action: What the reviewer decided: allow or remove.
    actor: The person or program.
    note: Why, in words.
    labelled_ms: When, milliseconds since the epoch.
    parts: The same of single parts that were looked at, by the part's name in the prediction log and the verdict: text, image 2, video at 4.2 s.
    """

    RECORD: ClassVar[str] = "label"

    request_id: str
    source: str
    task: str
    truth: dict[str, bool] = dataclasses.field(default_factory=dict)
    text: str | None = None
    content_id: str | None = None
    author_id: str | None = None
    action: str | None = None
    actor: str | None = None
    note: str | None = None
    labelled_ms: int
    parts: dict[str, dict[str, bool]] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Label:
        return cls(
            request_id=d["request_id"],
            source=d["source"],
            task=d["task"],
            truth=d["truth"],
            text=d["text"],
            content_id=d["content_id"],
            author_id=d["author_id"],
            action=d["action"],
            actor=d["actor"],
            note=d["note"],
            labelled_ms=d["labelled_ms"],
            parts=d["parts"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Challenger:
    """A version that answers beside the live one.

    arm: canary answers a share of the requests; shadow answers a share beside, for the log alone.
    digest: sha256 of the folder's manifest.
    share: Of the keys, 0 to 1.
    salt: Which keys: those whose hash with it is below the share; a key stays with its arm.
    purpose: Whose it is: run (a judged candidate), watch (the version before, asked beside the new one), or nothing where a person set it: only a person ends it.
    """

    arm: str
    version: str
    uri: str
    digest: str
    share: float
    salt: str
    purpose: str = ""

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Challenger:
        return cls(
            arm=d["arm"],
            version=d["version"],
            uri=d["uri"],
            digest=d["digest"],
            share=d["share"],
            salt=d["salt"],
            purpose=d["purpose"],
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
    challengers: At most one of an arm.
    kind: What it is: promotion, rollback (what was left is not to come back), challenge (arms beside the live version), or nothing where an older writer wrote it.
    """

    RECORD: ClassVar[str] = "model-update"

    model: str
    version: str
    uri: str
    digest: str
    reason: str
    actor: str
    decided_ms: int
    challengers: tuple[Challenger, ...] = ()
    kind: str = ""

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
            challengers=tuple(Challenger.from_dict(item) for item in d["challengers"]),
            kind=d["kind"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Deciding:
    """The part and category that weighed most.

    part: Which part of the item: text, image 2, video at 4.2 s.
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
    """The worst that any part says of one category.

    category: hate_speech, harassment, violence, sexual_content, self_harm, spam or misinformation.
    probability: 0 to 1.
    threshold: Flagged above it.
    part: The part that says it.
    """

    category: str
    probability: float
    threshold: float
    flagged: bool
    part: str = "text"

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> CategoryVerdict:
        return cls(
            category=d["category"],
            probability=d["probability"],
            threshold=d["threshold"],
            flagged=d["flagged"],
            part=d["part"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PartVerdict:
    """One part of the item: what weighed most in it, or why it was not judged.

    part: text, image 1, video at 4.2 s.
    category: What weighed most.
    not_covered: Categories that the model of this part was not trained to tell.
    error_code: Why it was not judged, as a short stable word.
    error_message: The same for a person.
    unseen: What of this part was not judged, in words: the rest of a text that is too long, what follows the first frame. Null where all of it was.
    """

    part: str
    category: str | None = None
    probability: float | None = None
    not_covered: tuple[str, ...] = ()
    error_code: str | None = None
    error_message: str | None = None
    unseen: str | None = None

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> PartVerdict:
        return cls(
            part=d["part"],
            category=d["category"],
            probability=d["probability"],
            not_covered=tuple(d["not_covered"]),
            error_code=d["error_code"],
            error_message=d["error_message"],
            unseen=d["unseen"],
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
    categories: Every category that a model of one of its parts covers.
    not_covered: Categories that no model of its parts was trained to tell.
    parts: Every part of the item.
    author_id: Who wrote it.
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
    parts: tuple[PartVerdict, ...] = ()
    author_id: str | None = None

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
            parts=tuple(PartVerdict.from_dict(item) for item in d["parts"]),
            author_id=d["author_id"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OcrRequest:
    """A picture whose text is to be read.

    image: The picture.
    """

    RECORD: ClassVar[str] = "ocr-request"

    image: Media

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> OcrRequest:
        return cls(
            image=Media.from_dict(d["image"]),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TextLine:
    """One line of text in a picture.

    probability: 0 to 1: the mean of its characters.
    box: Its corners, x and y in pixels from the top left: top left, top right, bottom right, bottom left.
    """

    text: str
    probability: float
    box: tuple[float, ...]

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> TextLine:
        return cls(
            text=d["text"],
            probability=d["probability"],
            box=tuple(d["box"]),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OcrResult:
    """The text in a picture.

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
    text: All lines, joined by line feeds.
    lines: From top to bottom, then from left to right.
    notes: What of the file was left out or changed before the model got it, in words; empty where nothing was.
    """

    RECORD: ClassVar[str] = "ocr-result"

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
    text: str = ""
    lines: tuple[TextLine, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> OcrResult:
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
            text=d["text"],
            lines=tuple(TextLine.from_dict(item) for item in d["lines"]),
            notes=tuple(d["notes"]),
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
class ServedFeature:
    """One feature as it was served to each request.

    dtype: <i8 or <f8 for numbers, utf8 for texts.
    values: Numbers, one a request.
    texts: Texts, one a request.
    event_ms: int64 little-endian, one a request: the last event that the value counts, 0 where nothing is known.
    state: int8, one a request: 0 fresh, 1 stale, 2 missing, 3 the store did not answer. A default stands where it is 2 or 3.
    """

    view: str
    name: str
    dtype: str
    values: bytes
    texts: tuple[str, ...]
    event_ms: bytes
    state: bytes

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> ServedFeature:
        return cls(
            view=d["view"],
            name=d["name"],
            dtype=d["dtype"],
            values=d["values"],
            texts=tuple(d["texts"]),
            event_ms=d["event_ms"],
            state=d["state"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PredictionLog:
    """One batch through one model, columnar: entry i of each column belongs to request i.

    worker: Process that computed the batch.
    started_ms: Start of the batch, milliseconds since the epoch.
    compute_ms: Time of the batch in this model, milliseconds.
    request_ids: Of each entry; a request with several parts has several.
    origin_partitions: int32 little-endian, one a request.
    origin_offsets: int64 little-endian, one a request.
    outputs: The model's output, row-major.
    outputs_shape: First the number of entries.
    signals: Named drift signals.
    parts: Which part of its request each entry is; empty where every request is one entry.
    output_names: What each column of the outputs stands for, category or class; empty where columns have no names.
    thresholds: float32 little-endian, one an output name: from this probability on it holds. Empty where the largest output decides.
    features: Feature values that the model saw, in the order of the request ids.
    embeddings: float16 little-endian, as many for each entry: what the model's last layer saw of it, in at most 16 numbers that keep distances. Empty where the model does not say.
    digest: sha256 of the version's folder: two versions of one name are two. Empty in records from before this field.
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
    parts: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    thresholds: bytes = b""
    features: tuple[ServedFeature, ...] = ()
    embeddings: bytes = b""
    digest: str = ""

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
            parts=tuple(d["parts"]),
            output_names=tuple(d["output_names"]),
            thresholds=d["thresholds"],
            features=tuple(ServedFeature.from_dict(item) for item in d["features"]),
            embeddings=d["embeddings"],
            digest=d["digest"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PredictionOutcome:
    """One prediction with one source's word on what was true.

    model: Also the key.
    part: Which part of the request; empty where it is one.
    predicted_ms: Start of the batch, milliseconds since the epoch.
    outputs: This request's slice of the model's output.
    output_names: What each output stands for; empty where they have no names.
    thresholds: float32 little-endian, one an output name; empty where the largest output decides.
    source: Who knows the truth: review, or a producer's own word.
    truth: What holds and what does not, by category or class.
    text: The right text, for translation and transcription.
    labelled_ms: When the label was given, milliseconds since the epoch.
    part_truth: What the label says of single parts, by their names.
    """

    RECORD: ClassVar[str] = "prediction-outcome"

    request_id: str
    task: str
    model: str
    version: str
    arm: str
    part: str
    predicted_ms: int
    outputs: bytes
    outputs_dtype: str
    output_names: tuple[str, ...]
    thresholds: bytes
    source: str
    truth: dict[str, bool]
    text: str | None = None
    labelled_ms: int
    part_truth: dict[str, dict[str, bool]] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> PredictionOutcome:
        return cls(
            request_id=d["request_id"],
            task=d["task"],
            model=d["model"],
            version=d["version"],
            arm=d["arm"],
            part=d["part"],
            predicted_ms=d["predicted_ms"],
            outputs=d["outputs"],
            outputs_dtype=d["outputs_dtype"],
            output_names=tuple(d["output_names"]),
            thresholds=d["thresholds"],
            source=d["source"],
            truth=d["truth"],
            text=d["text"],
            labelled_ms=d["labelled_ms"],
            part_truth=d["part_truth"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RecommendationRequest:
    """Items for a user.

    user_id: Who; also the key. A user of whom nothing is known gets popular items.
    limit: How many items to return, 1 to 500.
    categories: Only items of these categories; empty for all.
    exclude: Ids of items to leave out, for example those that the page shows already.
    surface: Where they are shown: home, cart, mail.
    explain: Whether reasons name the features that raised each item most. It costs time.
    """

    RECORD: ClassVar[str] = "recommendation-request"

    user_id: str
    limit: int = 20
    categories: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    surface: str | None = None
    explain: bool = False

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> RecommendationRequest:
        return cls(
            user_id=d["user_id"],
            limit=d["limit"],
            categories=tuple(d["categories"]),
            exclude=tuple(d["exclude"]),
            surface=d["surface"],
            explain=d["explain"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RecommendedItem:
    """One item of a recommendation.

    score: The ranker's: larger is better.
    retrieval_score: Similarity of user and item in the first stage.
    reason: Why it is here, in words.
    propensity: Probability of this item at this position, given those above it: 1 where nothing was left to chance.
    explored: Whether it was chosen by chance, to learn whether it fits.
    """

    item_id: str
    title: str
    category: str | None = None
    score: float
    retrieval_score: float = 0.0
    reason: str = ""
    propensity: float = 1.0
    explored: bool = False

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> RecommendedItem:
        return cls(
            item_id=d["item_id"],
            title=d["title"],
            category=d["category"],
            score=d["score"],
            retrieval_score=d["retrieval_score"],
            reason=d["reason"],
            propensity=d["propensity"],
            explored=d["explored"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FeatureValue:
    """A feature as it was read for the request.

    state: fresh, stale, missing or unreachable.
    event_time_ms: Time of the last event in it, milliseconds since the epoch; 0 where it has none.
    """

    name: str
    value: str
    state: str
    event_time_ms: int = 0

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> FeatureValue:
        return cls(
            name=d["name"],
            value=d["value"],
            state=d["state"],
            event_time_ms=d["event_time_ms"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RecommendationResult:
    """Items for a user, best first.

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
    user_id: The request's; empty where it could not be read.
    basis: What the answer rests on: history (items of the user that the model knows), profile (the user's features alone) or popular (neither).
    items: Best first.
    candidates: How many items were ranked.
    seen: How many items were left out because the user has seen them.
    index_version: The index of items that was searched, which belongs to the model's version.
    index_items: Items in it, with those that came since it was built and without those that were removed.
    feature_values: Those of the user that the models were given; user_recent.events as the number of events.
    notes: What was missing or done otherwise, in words; empty where nothing was.
    """

    RECORD: ClassVar[str] = "recommendation-result"

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
    user_id: str = ""
    basis: str | None = None
    items: tuple[RecommendedItem, ...] = ()
    candidates: int = 0
    seen: int = 0
    index_version: str = ""
    index_items: int = 0
    feature_values: tuple[FeatureValue, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> RecommendationResult:
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
            user_id=d["user_id"],
            basis=d["basis"],
            items=tuple(RecommendedItem.from_dict(item) for item in d["items"]),
            candidates=d["candidates"],
            seen=d["seen"],
            index_version=d["index_version"],
            index_items=d["index_items"],
            feature_values=tuple(FeatureValue.from_dict(item) for item in d["feature_values"]),
            notes=tuple(d["notes"]),
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
    arm: live, canary or shadow.
    digest: sha256 of the version's folder, as it was announced. Empty in records from before this field.
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
    arm: str = "live"
    digest: str = ""

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
            arm=d["arm"],
            digest=d["digest"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TabularRequest:
    """One row of a table, for a model that takes numbers and categories.

    numbers: Numeric columns by name.
    categories: Categorical columns by name.
    user_id: The user whose features are read from the online store, if the task needs features of users.
    item_id: The item whose features are read from the online store, if the task needs features of items.
    """

    RECORD: ClassVar[str] = "tabular-request"

    numbers: dict[str, float] = dataclasses.field(default_factory=dict)
    categories: dict[str, str] = dataclasses.field(default_factory=dict)
    user_id: str | None = None
    item_id: str | None = None

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> TabularRequest:
        return cls(
            numbers=d["numbers"],
            categories=d["categories"],
            user_id=d["user_id"],
            item_id=d["item_id"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LabelProbability:
    """One label of a classifier.

    probability: 0 to 1; they add up to 1 unless labels can hold together.
    positive: Whether the label holds: the likeliest, or each one from its threshold on.
    """

    label: str
    probability: float
    positive: bool

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> LabelProbability:
        return cls(
            label=d["label"],
            probability=d["probability"],
            positive=d["positive"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TabularResult:
    """The scores of one row of a table.

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
    labels: All classes, likeliest first; empty if the model predicts a number.
    value: The predicted number; null if the model predicts classes.
    """

    RECORD: ClassVar[str] = "tabular-result"

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
    labels: tuple[LabelProbability, ...] = ()
    value: float | None = None

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> TabularResult:
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
            labels=tuple(LabelProbability.from_dict(item) for item in d["labels"]),
            value=d["value"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TextClassificationResult:
    """The labels of a text.

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
    labels: All labels, likeliest first.
    chunks: Into how many pieces the text was split, as it was longer than the model's limit; 1 if it was not.
    """

    RECORD: ClassVar[str] = "text-classification-result"

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
    labels: tuple[LabelProbability, ...] = ()
    chunks: int = 1

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> TextClassificationResult:
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
            labels=tuple(LabelProbability.from_dict(item) for item in d["labels"]),
            chunks=d["chunks"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TextRequest:
    """A text for a task that somebody declared.

    text: The text.
    """

    RECORD: ClassVar[str] = "text-request"

    text: str

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> TextRequest:
        return cls(
            text=d["text"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """A part of a text that names something.

    start: Of its first character; counted in Unicode code points.
    end: After its last character.
    probability: 0 to 1: the smallest of its tokens.
    """

    label: str
    text: str
    start: int
    end: int
    probability: float

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Entity:
        return cls(
            label=d["label"],
            text=d["text"],
            start=d["start"],
            end=d["end"],
            probability=d["probability"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TokenClassificationResult:
    """The named parts of a text.

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
    entities: In the order of the text.
    chunks: Into how many pieces the text was split, as it was longer than the model's limit; 1 if it was not.
    """

    RECORD: ClassVar[str] = "token-classification-result"

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
    entities: tuple[Entity, ...] = ()
    chunks: int = 1

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> TokenClassificationResult:
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
            entities=tuple(Entity.from_dict(item) for item in d["entities"]),
            chunks=d["chunks"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainingEvent:
    """A step on the way from a cause to a new version. All of a run have its key.

    model: Also the key.
    kind: asked, passed_over, launched, progress, trained, failed, judged, refused, canary, promoted, rolled_back.
    words: What happened and why, for people.
    cause: Id of the record behind it.
    facts: For programs: version, digest, folder, pid, metrics.
    at_ms: Epoch.
    """

    RECORD: ClassVar[str] = "training-event"

    run_key: str
    model: str
    kind: str
    words: str
    cause: str = ""
    facts: dict[str, str] = dataclasses.field(default_factory=dict)
    at_ms: int

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> TrainingEvent:
        return cls(
            run_key=d["run_key"],
            model=d["model"],
            kind=d["kind"],
            words=d["words"],
            cause=d["cause"],
            facts=d["facts"],
            at_ms=d["at_ms"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest:
    """A model is to be trained anew. Repeats of a run key are the same request.

    run_key: Names the run; the same cause gives the same key.
    model: Also the key.
    version: The version that answered when it was decided.
    reason: Why, in words.
    causes: Ids of the drift events behind it; empty where a person asked.
    actor: Who or what decided.
    options: For the run: from_ms and since_ms, epoch, where its window and the drift begin; and what its trainer takes.
    decided_ms: Epoch.
    """

    RECORD: ClassVar[str] = "training-request"

    run_key: str
    model: str
    version: str
    reason: str
    causes: tuple[str, ...] = ()
    actor: str
    options: dict[str, str] = dataclasses.field(default_factory=dict)
    decided_ms: int

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> TrainingRequest:
        return cls(
            run_key=d["run_key"],
            model=d["model"],
            version=d["version"],
            reason=d["reason"],
            causes=tuple(d["causes"]),
            actor=d["actor"],
            options=d["options"],
            decided_ms=d["decided_ms"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptionRequest:
    """Speech to be written down.

    audio: The sound: WAV, FLAC or OGG.
    """

    RECORD: ClassVar[str] = "transcription-request"

    audio: Media

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> TranscriptionRequest:
        return cls(
            audio=Media.from_dict(d["audio"]),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One word.

    start_s: Seconds from the start of the sound.
    probability: 0 to 1, mean over its frames.
    """

    text: str
    start_s: float
    end_s: float
    probability: float

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Word:
        return cls(
            text=d["text"],
            start_s=d["start_s"],
            end_s=d["end_s"],
            probability=d["probability"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptionResult:
    """What was said, and when.

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
    text: All words.
    words: The words with their times.
    duration_s: Length of the sound, seconds.
    notes: What of the file was left out or changed before the model got it, in words; empty where nothing was.
    """

    RECORD: ClassVar[str] = "transcription-result"

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
    text: str | None = None
    words: tuple[Word, ...] = ()
    duration_s: float = 0.0
    notes: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> TranscriptionResult:
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
            text=d["text"],
            words=tuple(Word.from_dict(item) for item in d["words"]),
            duration_s=d["duration_s"],
            notes=tuple(d["notes"]),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TranslationRequest:
    """A text that a model turns into another: a translation, a summary.

    source: Language of the text, a BCP 47 tag such as en or pt-BR; empty if the model needs none.
    target: Language of the answer; empty if the model needs none.
    """

    RECORD: ClassVar[str] = "translation-request"

    text: str
    source: str = ""
    target: str = ""

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> TranslationRequest:
        return cls(
            text=d["text"],
            source=d["source"],
            target=d["target"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TranslationResult:
    """A translated text.

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
    text: The translation.
    score: Mean log-probability of a token, natural logarithm: nearer to 0 is surer.
    truncated: True where the text was longer than the model reads and its end is missing.
    """

    RECORD: ClassVar[str] = "translation-result"

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
    text: str | None = None
    source: str | None = None
    target: str | None = None
    score: float = 0.0
    truncated: bool = False

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> TranslationResult:
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
            text=d["text"],
            source=d["source"],
            target=d["target"],
            score=d["score"],
            truncated=d["truncated"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UserEvent:
    """Something that a user did. Sent by producers, in the same words again once it was found valid.

    event_id: Names the event; a second one with the same id within the window is a repeat.
    user_id: Who; also the key.
    kind: view, cart, purchase, rating or search.
    item_id: What it was about.
    session_id: The visit that it belongs to.
    quantity: Pieces, of a cart or purchase.
    amount_cents: What was paid in all, of a purchase; in hundredths of the currency, so that sums are exact.
    rating: Stars, 1 to 5, of a rating.
    event_ms: When it happened, by the clock of whoever saw it; epoch.
    """

    RECORD: ClassVar[str] = "user-event"

    event_id: str
    user_id: str
    kind: str
    item_id: str | None = None
    session_id: str | None = None
    quantity: int = 1
    amount_cents: int | None = None
    rating: int | None = None
    event_ms: int

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> UserEvent:
        return cls(
            event_id=d["event_id"],
            user_id=d["user_id"],
            kind=d["kind"],
            item_id=d["item_id"],
            session_id=d["session_id"],
            quantity=d["quantity"],
            amount_cents=d["amount_cents"],
            rating=d["rating"],
            event_ms=d["event_ms"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UserProfile:
    """What is known of a user besides events. The last record of a key is the truth.

    user_id: The key.
    age: Years.
    country: ISO 3166-1, two letters.
    updated_ms: Epoch.
    """

    RECORD: ClassVar[str] = "user-profile"

    user_id: str
    age: int | None = None
    country: str | None = None
    updated_ms: int

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> UserProfile:
        return cls(
            user_id=d["user_id"],
            age=d["age"],
            country=d["country"],
            updated_ms=d["updated_ms"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UserTile:
    """What one user did with one item in one visit within five minutes. Tiles add up; n tells versions of one apart.

    user_id: The key.
    tile_start_ms: First millisecond of the five minutes; epoch.
    session_id: Empty for events of no visit.
    item_id: What the events were about; empty where they name nothing.
    n: Events counted: rises with each version of the tile.
    first_ms: Time of the first event.
    last_ms: Time of the last event.
    viewed: Events of kind view.
    carted: Events of kind cart.
    bought: Events of kind purchase.
    units: Pieces bought.
    rated: Events that carry a rating.
    stars: Stars, added up.
    """

    RECORD: ClassVar[str] = "user-tile"

    user_id: str
    tile_start_ms: int
    session_id: str
    item_id: str
    n: int
    first_ms: int
    last_ms: int
    viewed: int
    carted: int
    bought: int
    units: int
    revenue_cents: int
    rated: int
    stars: int

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> UserTile:
        return cls(
            user_id=d["user_id"],
            tile_start_ms=d["tile_start_ms"],
            session_id=d["session_id"],
            item_id=d["item_id"],
            n=d["n"],
            first_ms=d["first_ms"],
            last_ms=d["last_ms"],
            viewed=d["viewed"],
            carted=d["carted"],
            bought=d["bought"],
            units=d["units"],
            revenue_cents=d["revenue_cents"],
            rated=d["rated"],
            stars=d["stars"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VisionRequest:
    """A picture to be classified.

    image: The picture.
    top: How many classes to name, the likeliest first; 1 to 100.
    """

    RECORD: ClassVar[str] = "vision-request"

    image: Media
    top: int = 5

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> VisionRequest:
        return cls(
            image=Media.from_dict(d["image"]),
            top=d["top"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClassProbability:
    """One class a model can tell.

    probability: 0 to 1; all classes of the model add up to 1.
    """

    label: str
    probability: float

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> ClassProbability:
        return cls(
            label=d["label"],
            probability=d["probability"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VisionResult:
    """What a picture shows.

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
    classes: The likeliest classes, likeliest first.
    notes: What of the file was left out or changed before the model got it, in words; empty where nothing was.
    """

    RECORD: ClassVar[str] = "vision-result"

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
    classes: tuple[ClassProbability, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> VisionResult:
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
            classes=tuple(ClassProbability.from_dict(item) for item in d["classes"]),
            notes=tuple(d["notes"]),
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
    digests: sha256 of each live version's folder, by model.
    notes: What keeps the process from what was asked of it, in words: a version that was announced and does not answer, an update that cannot be read yet.
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
    digests: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

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
            digests=d["digests"],
            notes=tuple(d["notes"]),
        )
