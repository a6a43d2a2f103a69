"""Closed sets of words in records, and names that several packages share. Each member equals its text: `Arm.LIVE == "live"`."""

from __future__ import annotations

from enum import StrEnum


class Arm(StrEnum):
    """What a model version answers for. Canary: a share of the keys. Shadow: the same requests as the live version, for the log alone."""

    LIVE = "live"
    CANARY = "canary"
    SHADOW = "shadow"


class UpdateKind(StrEnum):
    """`ModelUpdate.kind`."""

    PROMOTION = "promotion"
    ROLLBACK = "rollback"
    CHALLENGE = "challenge"


class Purpose(StrEnum):
    """`Challenger.purpose`: why a version answers beside the live one. A challenger that a person set has no purpose."""

    RUN = "run"
    WATCH = "watch"


class RunEvent(StrEnum):
    """`TrainingEvent.kind`: the event in a training run. All but PROGRESS and PASSED_OVER occur at most once per run."""

    ASKED = "asked"
    PASSED_OVER = "passed_over"
    LAUNCHED = "launched"
    PROGRESS = "progress"
    TRAINED = "trained"
    JUDGED = "judged"
    CANARY = "canary"
    PROMOTED = "promoted"
    REFUSED = "refused"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


class FinishReason(StrEnum):
    """Why an answer of a language model ends. STOP: the model ended it, or a stop text came. LENGTH: max_tokens or the context. The last
    two are on chat-tokens-v1 alone: their results have no text."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    CONTENT_FILTER = "content_filter"
    FAILED = "failed"
    BUSY = "busy"


class FlinkGroup(StrEnum):
    """Consumer groups under which Flink jobs commit the positions of their last checkpoint."""

    TILES = "flink-tiles"
    OUTCOMES = "flink-outcomes"
