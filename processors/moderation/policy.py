"""Verdicts to actions: what becomes of a content item, by rules that settings name. Pure.

The strictest rule that applies wins: remove, then review, then allow. Every reason is named, with the part and the number.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.categories import CATEGORIES
from schemas.errors import BadSettings

KINDS = ("text", "image", "video")
ALLOW, REVIEW, REMOVE = "allow", "review", "remove"
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Rules:
    """remove_at: by category, or kind of part and category (`image:spam`), the probability from which a flagged item is
    removed without a person; inf for never.
    review_unjudged: an item with a part that could not be judged, or not whole, is looked at by a person."""

    remove_at: Mapping[str, float]
    review_unjudged: bool = True

    @classmethod
    def parse(cls, remove_at: str, review_unjudged: bool) -> Rules:
        """`default=0.95 self_harm=never image:spam=never`. Raises BadSettings."""
        found: dict[str, float] = {}
        for word in remove_at.replace(",", " ").split():
            name, _, value = word.partition("=")
            kind, colon, category = name.rpartition(":")
            if category not in (*CATEGORIES, "default") or (colon and kind not in KINDS):
                raise BadSettings(
                    f"MILLRACE_REMOVE_AT names {name!r}; it takes {', '.join(CATEGORIES)} or default, alone or after "
                    f"{', '.join(f'{kind}:' for kind in KINDS)}"
                )
            try:
                found[name] = math.inf if value == "never" else float(value)
            except ValueError:
                raise BadSettings(f"MILLRACE_REMOVE_AT has {word!r}; it takes category=probability or =never") from None
        return cls(found, review_unjudged)

    def limit(self, part: str, category: str) -> float:
        """The narrowest rule that is set: of the part's kind and category, of its kind, of the category, the default."""
        kind = part.split(" ")[0]
        for name in (f"{kind}:{category}", f"{kind}:default", category, "default"):
            if name in self.remove_at:
                return self.remove_at[name]
        return math.inf

    @property
    def digest(self) -> str:
        words = f"{sorted(self.remove_at.items())} {self.review_unjudged}"
        return hashlib.sha256(words.encode()).hexdigest()[:12]


def decide(verdict: Record, rules: Rules) -> tuple[str, list[str]]:
    """The action, and its reasons."""
    if verdict["status"] != "ok":
        return REVIEW, [f"not judged: {verdict['status']}, {verdict['error_code']}"]
    removals, doubts = [], []
    for found in verdict["categories"]:
        if not found["flagged"]:
            continue
        category, probability = found["category"], found["probability"]
        said = f"{category} {probability:.2f} in {found['part']}"
        limit = rules.limit(found["part"], category)
        if probability >= limit:
            removals.append(f"{said} passes {limit:.2f}, at which it is removed")
        else:
            doubts.append(f"{said} passes its threshold {found['threshold']:.2f}")
    if rules.review_unjudged:
        doubts += [f"{one['part']} was not judged: {one['error_code']}" for one in verdict["parts"] if one["error_code"]]
        doubts += [f"{one['part']} was not judged whole: {one['unseen']}" for one in verdict["parts"] if one["unseen"]]
    if removals:
        return REMOVE, [*removals, *doubts]
    if doubts:
        return REVIEW, doubts
    return ALLOW, ["nothing flagged"]


def action_of(verdict: Record, key: str, timestamp_ms: int, rules: Rules) -> dict[str, Any]:
    """The action record of a verdict. key: of the verdict's record, the content id where the verdict has none."""
    action, reasons = decide(verdict, rules)
    return {
        "content_id": verdict["content_id"] or key, "author_id": verdict["author_id"], "action": action, "reasons": reasons,
        "decided_by": "policy", "request_id": verdict["request_id"], "policy": rules.digest, "decided_ms": timestamp_ms,
    }  # fmt: skip


def action_of_review(label: Record, timestamp_ms: int) -> dict[str, Any] | None:
    """The action that a reviewer's decision makes; None for a label that decides nothing."""
    if label["source"] != "review" or label["action"] not in (ALLOW, REMOVE) or not label["content_id"]:
        return None
    return {
        "content_id": label["content_id"], "author_id": label["author_id"], "action": label["action"],
        "reasons": [label["note"] or "a reviewer decided"], "decided_by": label["actor"] or "reviewer",
        "request_id": label["request_id"], "policy": "", "decided_ms": timestamp_ms,
    }  # fmt: skip
