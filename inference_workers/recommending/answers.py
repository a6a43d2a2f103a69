"""Makes answers of a batch of requests: candidates by the first stage, ranked by the second, chosen by the rules of the settings."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from inference_workers.recommending.asked import Asked
from inference_workers.recommending.reason_texts import explained, reason_texts
from inference_workers.recommending.recommender import Basis, Floats, Ranked, Recommender, Rows
from inference_workers.recommending.selection import Selected, SelectionRules, select
from inference_workers.recommending.settings import RecommendationSettings

WIDER = 5  # so many times more candidates are retrieved if only some categories are wanted
_NONE = np.zeros(0, np.int32)
EXPLAINED = 20  # at most so many items of an answer get a reason by the model's own inputs


@dataclass(frozen=True, slots=True)
class Answer:
    """items: as fields of the result. candidates: how many were ranked. notes: what was missing or done otherwise, as sentences."""

    items: list[dict[str, Any]]
    candidates: int
    notes: list[str] = field(default_factory=list)


class AnswerMaker:
    def __init__(self, recommender: Recommender, settings: RecommendationSettings) -> None:
        self._recommender, self._settings = recommender, settings
        self._blocked = set(settings.blocked_items.split())
        self._rules = SelectionRules(settings.diversity, settings.max_per_category, settings.explore_share)

    def ranked(self, inputs: Sequence[Asked]) -> tuple[Floats, list[Ranked], list[list[str]]]:
        """Embeddings, float32 (n, width), ranked candidates and notes of each request: one pass of each stage for all of them."""
        users = [asked.history for asked in inputs]
        embeddings = self._recommender.embed(users)
        candidates, notes = self._candidates(inputs, embeddings)
        return embeddings, self._recommender.rank(users, embeddings, candidates), notes

    def _candidates(self, inputs: Sequence[Asked], embeddings: Floats) -> tuple[list[Rows], list[list[str]]]:
        """Rows of the item table for each request, and what was done otherwise than asked."""
        hidden = [self._blocked | set(asked.excluded) for asked in inputs]
        found = self._searched(inputs, embeddings, [out | set(asked.seen) for out, asked in zip(hidden, inputs, strict=True)])
        notes: list[list[str]] = [list(asked.notes) for asked in inputs]
        for row, asked in enumerate(inputs):
            found[row] = self._wanted(asked, found[row])
            if not len(found[row]) and asked.seen:
                again = self._searched([asked], embeddings[row : row + 1], [hidden[row]])[0]
                found[row] = self._wanted(asked, again)
                if len(found[row]):
                    notes[row].append("the user has seen every item that could be recommended: items are shown again")
        return found, notes

    def _searched(self, inputs: Sequence[Asked], embeddings: Floats, without: Sequence[Collection[str]]) -> list[Rows]:
        """Requests that want some categories are searched by themselves: they look at more items, and others need not."""
        found: list[Rows] = [_NONE] * len(inputs)
        for wider in (False, True):
            rows = [row for row, asked in enumerate(inputs) if bool(asked.categories) is wider]
            limit = self._settings.max_candidates * (WIDER if wider else 1)
            searched = self._recommender.candidates(embeddings[rows], limit, [without[row] for row in rows]) if rows else []
            for row, some in zip(rows, searched, strict=True):
                found[row] = some
        return found

    def _wanted(self, asked: Asked, rows: Rows) -> Rows:
        if asked.categories:
            attributes = self._recommender.items.attributes
            rows = rows[[attributes[row].get("category") in asked.categories for row in rows.tolist()]]
        return rows[: self._settings.max_candidates]

    def answer(self, asked: Asked, ranked: Ranked, notes: list[str]) -> Answer:
        """The places of the answer. Notes are added to."""
        table, rows = self._recommender.items, ranked.items
        categories = [self._category(row) for row in rows.tolist()] if self._rules.max_per_category else []
        chosen = select(ranked.scores, table.vectors(rows), categories, asked.limit, self._rules, _random(asked))
        if not table.rows:
            notes.append("the index has no items")
        elif len(chosen) < asked.limit:
            notes.append(f"only {len(chosen)} of {asked.limit} items are left after filters and rules")
        shown = rows[[one.candidate for one in chosen]]
        reasons = self._reasons(asked, shown)
        items = [
            {
                "item_id": table.ids[rows[one.candidate]],
                "title": table.titles[rows[one.candidate]],
                "category": self._category(int(rows[one.candidate])) or None,
                "score": float(ranked.scores[one.candidate]),
                "retrieval_score": float(ranked.retrieval[one.candidate]),
                "reason": _reason(one, reason),
                "propensity": one.propensity,
                "explored": one.explored,
            }
            for one, reason in zip(chosen, reasons, strict=True)
        ]
        return Answer(items, len(rows), notes)

    def _category(self, row: int) -> str:
        return str(self._recommender.items.attributes[row].get("category", ""))

    def _reasons(self, asked: Asked, shown: Rows) -> list[str]:
        texts = reason_texts(self._recommender.items, asked.history, Basis(self._recommender.basis(asked.history)), shown)
        if asked.explain:
            for place, reasons in enumerate(self._recommender.reasons(asked.history, shown[:EXPLAINED])):
                texts[place] = explained(self._recommender.items, reasons) or texts[place]
        return texts


def _random(asked: Asked) -> np.random.Generator:
    """The same for the same request and time, so that a replay explores as the answer did."""
    digest = hashlib.blake2b(f"{asked.user_id}\0{asked.read_ms}\0{asked.limit}".encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest))


def _reason(one: Selected, text: str) -> str:
    return f"shown by chance, to learn whether it fits; {text}" if one.explored else text
