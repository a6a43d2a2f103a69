"""Every topic and consumer group that Millrace ships. Provisioning, retry and dead-letter topics, checks and tests derive from
this module. `catalogue.py` adds the topics of tasks that people declare.

Each block lists only the differences from the defaults of `Topic`: 4 partitions, 7 days, exactly once, FULL_TRANSITIVE. A new
topic is one block, added together with the code that writes and reads it.
"""

from __future__ import annotations

from schemas import generated as records
from schemas.chat_topics import CHAT, CHAT_CONTROLS, CHAT_REQUESTS, CHAT_RESULTS, CHAT_TOKENS
from schemas.durations import DAY_MS, HOUR_MS
from schemas.topic_kinds import FOREVER_MS, Compatibility, Consumption, Guarantee, Record, Topic
from schemas.vocabulary import FlinkGroup

# A label may arrive at most this long after its request. The prediction log is kept longer, so that each label finds its
# prediction.
LABEL_HORIZON_MS = 6 * DAY_MS

CONTENT = Topic(
    name="content-v1",
    record=records.Content,
    key="content_id",
    guarantee=Guarantee.NONE,
    owner="moderation",
    writers=("producers",),
    readers=("moderation worker",),
)
MODERATION_VERDICTS = Topic(
    name="moderation-verdicts-v1",
    record=records.ModerationVerdict,
    key="content_id, as the request's key",
    owner="moderation",
    writers=("moderation worker",),
    readers=("clients", "policy", "sinks"),
)
CONTENT_ACTIONS = Topic(
    name="content-actions-v1",
    record=records.ContentAction,
    key="content_id",
    retention_ms=90 * DAY_MS,
    owner="moderation",
    writers=("policy", "decisions"),
    readers=("producers", "strikes view", "review command"),
)
LABELS = Topic(
    name="labels-v1",
    record=records.Label,
    key="request_id",
    retention_ms=90 * DAY_MS,
    guarantee=Guarantee.AT_LEAST_ONCE,
    owner="moderation",
    writers=("producers", "review command", "attribution"),
    readers=("decisions", "timely"),
)
LABELS_TIMELY = Topic(
    name="labels-timely-v1",
    record=records.Label,
    key="request_id",
    retention_ms=30 * DAY_MS,
    compatibility=Compatibility.BACKWARD_TRANSITIVE,
    owner="features",
    writers=("timely",),
    readers=("outcomes job",),
)
VISION_REQUESTS = Topic(
    name="vision-requests-v1",
    record=records.VisionRequest,
    key="the caller's",
    guarantee=Guarantee.NONE,
    owner="vision",
    writers=("producers",),
    readers=("vision worker",),
)
VISION_RESULTS = Topic(
    name="vision-results-v1",
    record=records.VisionResult,
    key="as the request's key",
    owner="vision",
    writers=("vision worker",),
    readers=("clients", "sinks"),
)
TRANSLATION_REQUESTS = Topic(
    name="translation-requests-v1",
    record=records.TranslationRequest,
    key="the caller's",
    guarantee=Guarantee.NONE,
    owner="translation",
    writers=("producers",),
    readers=("translation worker",),
)
TRANSLATION_RESULTS = Topic(
    name="translation-results-v1",
    record=records.TranslationResult,
    key="as the request's key",
    owner="translation",
    writers=("translation worker",),
    readers=("clients", "sinks"),
)
TRANSCRIPTION_REQUESTS = Topic(
    name="transcription-requests-v1",
    record=records.TranscriptionRequest,
    key="the caller's",
    guarantee=Guarantee.NONE,
    owner="transcription",
    writers=("producers",),
    readers=("transcription worker",),
)
TRANSCRIPTION_RESULTS = Topic(
    name="transcription-results-v1",
    record=records.TranscriptionResult,
    key="as the request's key",
    owner="transcription",
    writers=("transcription worker",),
    readers=("clients", "sinks"),
)
RECOMMENDATION_REQUESTS = Topic(
    name="recommendation-requests-v1",
    record=records.RecommendationRequest,
    key="user_id",
    guarantee=Guarantee.NONE,
    owner="recommendation",
    writers=("producers",),
    readers=("recommendation worker",),
)
RECOMMENDATION_RESULTS = Topic(
    name="recommendation-results-v1",
    record=records.RecommendationResult,
    key="as the request's key",
    owner="recommendation",
    writers=("recommendation worker",),
    readers=("clients", "attribution", "sinks"),
)
USER_EVENTS = Topic(
    name="user-events-v1",
    record=records.UserEvent,
    key="user_id",
    guarantee=Guarantee.NONE,
    owner="features",
    writers=("producers", "generator", "replay command"),
    readers=("validate",),
)
USER_EVENTS_VALID = Topic(
    name="user-events-valid-v1",
    record=records.UserEvent,
    key="user_id",
    retention_ms=30 * DAY_MS,
    compatibility=Compatibility.BACKWARD_TRANSITIVE,
    owner="features",
    writers=("validate",),
    readers=("tiles job", "archive", "recent-sink", "attribution"),
)
LATE_EVENTS = Topic(
    name="late-events-v1",
    record=records.UserEvent,
    key="user_id",
    retention_ms=90 * DAY_MS,
    compatibility=Compatibility.BACKWARD_TRANSITIVE,
    owner="features",
    writers=("validate",),
    readers=("operator",),
)
USER_PROFILES = Topic(
    name="user-profiles-v1",
    record=records.UserProfile,
    key="user_id",
    retention_ms=FOREVER_MS,
    guarantee=Guarantee.NONE,
    owner="features",
    writers=("producers", "generator", "replay command"),
    readers=("user-sink",),
    compacted=True,
)
ITEMS = Topic(
    name="items-v1",
    record=records.Item,
    key="item_id",
    retention_ms=FOREVER_MS,
    guarantee=Guarantee.NONE,
    owner="features",
    writers=("producers", "generator", "replay command"),
    readers=("item-sink", "recommendation worker"),
    compacted=True,
)
USER_FEATURES = Topic(
    name="user-features-v1",
    record=records.UserTile,
    key="user_id",
    retention_ms=FOREVER_MS,  # all-time totals are rebuilt from it
    guarantee=Guarantee.AT_LEAST_ONCE,
    compatibility=Compatibility.BACKWARD_TRANSITIVE,
    owner="features",
    writers=("tiles job",),
    readers=("user-sink",),
)
ITEM_FEATURES = Topic(
    name="item-features-v1",
    record=records.ItemTile,
    key="item_id",
    retention_ms=FOREVER_MS,
    guarantee=Guarantee.AT_LEAST_ONCE,
    compatibility=Compatibility.BACKWARD_TRANSITIVE,
    owner="features",
    writers=("tiles job",),
    readers=("item-sink",),
)
REPLIES: Topic[Record] = Topic(
    name="replies-v1",
    record=None,
    key="as the request's key",
    partitions=32,
    retention_ms=DAY_MS,
    guarantee=Guarantee.AT_LEAST_ONCE,
    owner="streams",
    writers=("workers",),
    readers=("clients",),
)
PREDICTION_LOG = Topic(
    name="prediction-log-v1",
    record=records.PredictionLog,
    key="worker",
    compatibility=Compatibility.BACKWARD_TRANSITIVE,
    owner="inference_workers",
    writers=("workers",),
    readers=("outcomes job", "drift", "request command"),
)
PREDICTION_OUTCOMES = Topic(
    name="prediction-outcomes-v1",
    record=records.PredictionOutcome,
    key="model",
    retention_ms=90 * DAY_MS,
    compatibility=Compatibility.BACKWARD_TRANSITIVE,
    owner="features",
    writers=("outcomes job",),
    readers=("accuracy", "request command"),
)
DRIFT_STATE = Topic(
    name="drift-state-v1",
    record=records.DriftState,
    key="detector/model/version",
    partitions=1,
    retention_ms=FOREVER_MS,
    compatibility=Compatibility.BACKWARD_TRANSITIVE,
    owner="training_triggers",
    writers=("drift", "accuracy"),
    readers=("drift", "accuracy"),
    compacted=True,
)
DRIFT_EVENTS = Topic(
    name="drift-events-v1",
    record=records.DriftEvent,
    key="model",
    partitions=1,
    retention_ms=90 * DAY_MS,
    compatibility=Compatibility.BACKWARD_TRANSITIVE,
    owner="training_triggers",
    writers=("drift", "accuracy", "drift command"),
    readers=("drift", "accuracy", "decide", "drift command"),
)
TRAINING_REQUESTS = Topic(
    name="training-requests-v1",
    record=records.TrainingRequest,
    key="model",
    partitions=1,
    retention_ms=90 * DAY_MS,
    compatibility=Compatibility.BACKWARD_TRANSITIVE,
    owner="training_triggers",
    writers=("decide", "training command"),
    readers=("decide", "launch", "training run", "training command"),
)
TRAINING_EVENTS = Topic(
    name="training-events-v1",
    record=records.TrainingEvent,
    key="model",
    partitions=1,
    retention_ms=90 * DAY_MS,
    compatibility=Compatibility.BACKWARD_TRANSITIVE,
    owner="training_triggers",
    writers=("decide", "launch", "training run", "rollout"),
    readers=("decide", "launch", "training run", "rollout", "training command"),
)
MODEL_UPDATES = Topic(
    name="model-updates-v1",
    record=records.ModelUpdate,
    key="model",
    partitions=1,
    retention_ms=FOREVER_MS,
    guarantee=Guarantee.AT_LEAST_ONCE,
    owner="training_triggers",
    writers=("models command", "rollout"),
    readers=("workers", "drift", "accuracy", "rollout", "training run", "reconcile"),
)
SHADOW_RESULTS: Topic[Record] = Topic(
    name="shadow-results-v1",
    record=None,  # values are results of the task
    key="request_id",
    compatibility=Compatibility.BACKWARD_TRANSITIVE,
    owner="inference_workers",
    writers=("workers",),
    readers=("tail command",),
)
SWAP_ACKS = Topic(
    name="swap-acks-v1",
    record=records.SwapAck,
    key="model",
    partitions=1,
    compatibility=Compatibility.BACKWARD_TRANSITIVE,
    owner="inference_workers",
    writers=("workers",),
    readers=("rollout", "models command"),
)
WORKER_STATUS = Topic(
    name="worker-status-v1",
    record=records.WorkerStatus,
    key="process",
    partitions=1,
    retention_ms=HOUR_MS,
    guarantee=Guarantee.AT_LEAST_ONCE,
    compatibility=Compatibility.BACKWARD_TRANSITIVE,
    owner="streams",
    writers=("workers", "policy"),
    readers=("status command", "monitor"),
)
AUDIT = Topic(
    name="audit-v1",
    record=records.AuditEntry,
    key="actor",
    partitions=1,
    retention_ms=FOREVER_MS,  # it also records which dead letters were redriven
    compatibility=Compatibility.BACKWARD_TRANSITIVE,
    owner="infra",
    writers=("monitor",),
    readers=("monitor", "operator"),
)

CATALOGUE: tuple[Topic[Record], ...] = (
    CONTENT, MODERATION_VERDICTS, CONTENT_ACTIONS, LABELS, LABELS_TIMELY, VISION_REQUESTS, VISION_RESULTS,
    TRANSLATION_REQUESTS, TRANSLATION_RESULTS, TRANSCRIPTION_REQUESTS, TRANSCRIPTION_RESULTS,
    RECOMMENDATION_REQUESTS, RECOMMENDATION_RESULTS,
    CHAT_REQUESTS, CHAT_RESULTS, CHAT_TOKENS, CHAT_CONTROLS, USER_EVENTS, USER_EVENTS_VALID, LATE_EVENTS, USER_PROFILES, ITEMS, USER_FEATURES, ITEM_FEATURES, REPLIES, PREDICTION_LOG, PREDICTION_OUTCOMES,
    DRIFT_STATE, DRIFT_EVENTS, TRAINING_REQUESTS, TRAINING_EVENTS, MODEL_UPDATES, SHADOW_RESULTS, SWAP_ACKS, WORKER_STATUS,
    AUDIT,
)  # fmt: skip

RETRY_DELAYS_MS = (1_000, 10_000)

# Tasks: clients send requests, workers answer them.
TASKS: tuple[Consumption, ...] = (
    Consumption(
        topic=CONTENT, group="moderation", retry_delays_ms=RETRY_DELAYS_MS, results=MODERATION_VERDICTS, key_field="content_id"
    ),
    Consumption(topic=VISION_REQUESTS, group="vision", retry_delays_ms=RETRY_DELAYS_MS, results=VISION_RESULTS),
    Consumption(topic=TRANSLATION_REQUESTS, group="translation", retry_delays_ms=RETRY_DELAYS_MS, results=TRANSLATION_RESULTS),
    Consumption(
        topic=TRANSCRIPTION_REQUESTS, group="transcription", retry_delays_ms=RETRY_DELAYS_MS, results=TRANSCRIPTION_RESULTS
    ),
    Consumption(
        topic=RECOMMENDATION_REQUESTS,
        group="recommendation",
        retry_delays_ms=RETRY_DELAYS_MS,
        results=RECOMMENDATION_RESULTS,
        key_field="user_id",
    ),
    CHAT,
)
# Processors.
POLICY = Consumption(topic=MODERATION_VERDICTS, group="policy", retry_delays_ms=RETRY_DELAYS_MS, results=CONTENT_ACTIONS)
DECISIONS = Consumption(topic=LABELS, group="decisions", retry_delays_ms=RETRY_DELAYS_MS, results=CONTENT_ACTIONS)
TIMELY = Consumption(topic=LABELS, group="timely", retry_delays_ms=RETRY_DELAYS_MS, results=LABELS_TIMELY)
VALIDATE = Consumption(topic=USER_EVENTS, group="validate", retry_delays_ms=RETRY_DELAYS_MS, results=USER_EVENTS_VALID)
# What came of recommendations. No retries: an answer that cannot be read is set aside.
ATTRIBUTION = Consumption(topic=RECOMMENDATION_RESULTS, group="attribution", retry_delays_ms=(), results=LABELS)
# Feature stores. No retries: a tile that cannot be decoded is set aside; all other records wait.
USER_SINK = Consumption(topic=USER_FEATURES, group="user-sink", retry_delays_ms=())
ITEM_SINK = Consumption(topic=ITEM_FEATURES, group="item-sink", retry_delays_ms=())
RECENT_SINK = Consumption(topic=USER_EVENTS_VALID, group="recent-sink", retry_delays_ms=())
ARCHIVE = Consumption(topic=USER_EVENTS_VALID, group="archive", retry_delays_ms=())

# Drift detection and retraining. No retries: repeated records are recognized by their ids.
DRIFT = Consumption(topic=PREDICTION_LOG, group="drift", retry_delays_ms=())
ACCURACY = Consumption(topic=PREDICTION_OUTCOMES, group="accuracy", retry_delays_ms=())
DECIDE = Consumption(topic=DRIFT_EVENTS, group="decide", retry_delays_ms=(), results=TRAINING_REQUESTS)
LAUNCH = Consumption(topic=TRAINING_REQUESTS, group="launch", retry_delays_ms=(), results=TRAINING_EVENTS)
ROLLOUT = Consumption(topic=TRAINING_EVENTS, group="rollout", retry_delays_ms=(), results=MODEL_UPDATES)

CONSUMPTIONS: tuple[Consumption, ...] = (
    *TASKS, POLICY, DECISIONS, TIMELY, VALIDATE, USER_SINK, ITEM_SINK, ARCHIVE, DRIFT, ACCURACY, DECIDE, LAUNCH, ROLLOUT,
    RECENT_SINK, ATTRIBUTION,
)  # fmt: skip


# Flink jobs commit offsets too, but do not use the loop.
FLINK_READS: dict[str, tuple[str, ...]] = {
    FlinkGroup.TILES: (USER_EVENTS_VALID.name,),
    FlinkGroup.OUTCOMES: (PREDICTION_LOG.name, LABELS_TIMELY.name),
}
