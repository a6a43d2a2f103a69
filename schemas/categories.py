"""The categories of moderation, as verdicts, rules and labels name them."""

from __future__ import annotations

CATEGORIES = ("hate_speech", "harassment", "violence", "sexual_content", "self_harm", "spam", "misinformation")
