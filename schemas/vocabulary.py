"""Closed sets of words that records contain, and names that several packages must agree on. A word is its text: `Arm.LIVE == "live"`."""

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
    """`Challenger.purpose`: why a version answers beside the live one. A challenger that a person set has none."""

    RUN = "run"
    WATCH = "watch"


class RunEvent(StrEnum):
    """`TrainingEvent.kind`: what became of a training run. All but PROGRESS and PASSED_OVER come at most once a run."""

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


class FlinkGroup(StrEnum):
    """Consumer groups under which Flink jobs commit the positions of their last checkpoint."""

    TILES = "flink-tiles"
    OUTCOMES = "flink-outcomes"
