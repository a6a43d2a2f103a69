"""Settings of the processors, read once."""

from __future__ import annotations

from dataclasses import dataclass

from streams.process.group_settings import GroupSettings
from streams.process.settings import setting


@dataclass(frozen=True)
class ProcessorSettings(GroupSettings):
    remove_at: str = setting(
        "default=0.95 self_harm=never image:default=never video:default=never",
        "by category, the probability from which a flagged item is removed without a person",
    )
    review_unjudged: bool = setting(True, "whether an item with a part that could not be judged is reviewed")
    blob_roots: str = setting("", "roots of claim checks; the first is kept clean")
    dedupe_s: int = setting(900, "an event whose id came in so many seconds before is a repeat", 0, 86_400)
    replay_days: int = setting(366, "so many days back may a replay's header put an event; 0 refuses the header", 0, 3_650)
