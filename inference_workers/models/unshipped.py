"""Models of shipped tasks of which no version is shipped: a task does without one until a setting or a promotion
names a version. The workers of chat start with the model that `MILLRACE_CHAT_MODEL` names."""

from __future__ import annotations

MODERATION_OCR, MODERATION_NSFW, CHAT_MODEL = "moderation-ocr", "moderation-nsfw", "chat"
UNSHIPPED = (MODERATION_OCR, MODERATION_NSFW, CHAT_MODEL)
