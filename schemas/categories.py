"""What moderation tells apart: the words of verdicts, rules and labels."""

from __future__ import annotations

CATEGORIES = ("hate_speech", "harassment", "violence", "sexual_content", "self_harm", "spam", "misinformation")
