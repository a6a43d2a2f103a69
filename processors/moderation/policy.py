"""Maps verdicts to actions: decides what happens to a content item, by rules from the settings. Pure.

The strictest rule that applies wins: remove, then review, then allow. Each reason names the part of the item and the number.
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
    """remove_at: the probability from which a flagged item is removed without a review, by category, or by kind of part and
    category (`image:spam`); inf for never. review_unjudged: whether an item is reviewed if a part could not be judged, or not
    completely."""

    remove_at: Mapping[str, float]
    review_unjudged: bool = True

    @classmethod
    def parse(cls, remove_at: str, review_unjudged: bool) -> Rules:
        """Parses rules such as `default=0.95 self_harm=never image:spam=never`. Raises BadSettings."""
        limits: dict[str, float] = {}
        for word in remove_at.replace(",", " ").split():
            name, _, value = word.partition("=")
            kind, colon, category = name.rpartition(":")
            if category not in (*CATEGORIES, "default") or (colon and kind not in KINDS):
                raise BadSettings(
                    f"MILLRACE_REMOVE_AT names {name!r}; names are {', '.join(CATEGORIES)} and default, alone or after "
                    f"{', '.join(f'{kind}:' for kind in KINDS)}"
                )
            try:
                limits[name] = math.inf if value == "never" else float(value)
            except ValueError:
                raise BadSettings(
                    f"MILLRACE_REMOVE_AT has {word!r}; entries are category=probability or category=never"
                ) from None
        return cls(limits, review_unjudged)

    def limit(self, part: str, category: str) -> float:
        """The limit of the most specific rule that is set: for the part's kind and category, its kind, the category, or the
        default. Text that was read in a picture is of the picture's kind, as words may be read wrongly."""
        kind = part.removeprefix("text in ").split(" ")[0]
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
    for judged in verdict["categories"]:
        if not judged["flagged"]:
            continue
        category, probability = judged["category"], judged["probability"]
        finding = f"{category} {probability:.2f} in {judged['part']}"
        limit = rules.limit(judged["part"], category)
        if probability >= limit:
            removals.append(f"{finding} passes {limit:.2f}, at which it is removed")
        else:
            doubts.append(f"{finding} passes its threshold {judged['threshold']:.2f}")
    if rules.review_unjudged:
        doubts += [f"{part['part']} was not judged: {part['error_code']}" for part in verdict["parts"] if part["error_code"]]
        doubts += [f"{part['part']} was not judged whole: {part['unseen']}" for part in verdict["parts"] if part["unseen"]]
    if removals:
        return REMOVE, [*removals, *doubts]
    if doubts:
        return REVIEW, doubts
    return ALLOW, ["nothing flagged"]


def action_of(verdict: Record, key: str, timestamp_ms: int, rules: Rules) -> dict[str, Any]:
    """The action record of a verdict. key: the key of the verdict's record, used as content id if the verdict has none."""
    action, reasons = decide(verdict, rules)
    return {
        "content_id": verdict["content_id"] or key,
        "author_id": verdict["author_id"],
        "action": action,
        "reasons": reasons,
        "decided_by": "policy",
        "request_id": verdict["request_id"],
        "policy": rules.digest,
        "decided_ms": timestamp_ms,
    }


def action_of_review(label: Record, timestamp_ms: int) -> dict[str, Any] | None:
    """The action record of a reviewer's decision; None for a label without a decision."""
    if label["source"] != "review" or label["action"] not in (ALLOW, REMOVE) or not label["content_id"]:
        return None
    return {
        "content_id": label["content_id"],
        "author_id": label["author_id"],
        "action": label["action"],
        "reasons": [label["note"] or "a reviewer decided"],
        "decided_by": label["actor"] or "reviewer",
        "request_id": label["request_id"],
        "policy": "",
        "decided_ms": timestamp_ms,
    }
