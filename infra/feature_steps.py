"""The steps from an event to a readable feature: each with its consumer group and the topic that it reads."""

from __future__ import annotations

from schemas.topic_kinds import Record, Topic
from schemas.topics import ARCHIVE, ITEM_SINK, PREDICTION_LOG, RECENT_SINK, USER_EVENTS, USER_EVENTS_VALID, USER_SINK, VALIDATE
from schemas.vocabulary import FlinkGroup

STEPS: tuple[tuple[str, str, Topic[Record]], ...] = (
    ("validate", VALIDATE.group, USER_EVENTS),
    ("tiles (at its last checkpoint)", FlinkGroup.TILES, USER_EVENTS_VALID),
    ("user-sink", USER_SINK.group, USER_SINK.topic),
    ("item-sink", ITEM_SINK.group, ITEM_SINK.topic),
    ("recent-sink", RECENT_SINK.group, RECENT_SINK.topic),
    ("archive", ARCHIVE.group, USER_EVENTS_VALID),
    ("outcomes (at its last checkpoint)", FlinkGroup.OUTCOMES, PREDICTION_LOG),
)
