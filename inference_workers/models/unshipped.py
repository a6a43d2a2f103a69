"""Models of shipped tasks of which no version is shipped: a task does without one until a setting or a promotion names a version."""

from __future__ import annotations

MODERATION_OCR, MODERATION_NSFW = "moderation-ocr", "moderation-nsfw"
UNSHIPPED = (MODERATION_OCR, MODERATION_NSFW)
