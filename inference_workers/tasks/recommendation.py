"""Recommendation: the items of a catalogue that fit a user best, from what the user did until seconds ago.

One hop: the worker reads the features of all users of a micro-batch in one call, the model's first stage retrieves candidates from
the index of items, its second stage ranks all candidates of all users in one pass, and `recommending/selection.py` chooses the
answers. Nothing is fetched per item: items are in memory, followed from `items-v1`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec

import numpy as np
import structlog

from inference_workers.media.reader import MediaReader
from inference_workers.models.folder import ModelFolder
from inference_workers.recommending.answers import AnswerMaker
from inference_workers.recommending.asked import NEEDS, Asked, requests_of
from inference_workers.recommending.recommender import Floats, Recommender, UserHistory
from inference_workers.recommending.recommender import Rows as ItemRows
from inference_workers.recommending.served_requests import ServedTexts
from inference_workers.recommending.settings import RecommendationSettings
from inference_workers.task import ItemChange, Prediction, Prepared, Use, Versions
from processors.features.enrich import Need
from schemas.catalogue import consumption
from schemas.columns import Columns
from schemas.errors import ModelRefused, RecordError
from schemas.topics import RECOMMENDATION_RESULTS
from streams.clock import timed
from streams.process.settings import load

MODEL = "recommendation"
MAX_TITLE_CHARS = 200


@dataclass(eq=False)
class RecommenderBackend:
    recommender: Recommender

    def close(self) -> None:
        self.recommender.close()


class Recommendation:
    name = "recommendation"
    consumption = consumption("recommendation")
    results = RECOMMENDATION_RESULTS
    reads_media = False
    needs: Sequence[Need] = NEEDS
    models: Mapping[str, str] = {MODEL: f"shipped:{MODEL}"}

    @cached_property
    def settings(self) -> RecommendationSettings:
        """Raises BadSettings."""
        return load(RecommendationSettings, os.environ, self.name)

    def load(self, folder: ModelFolder, model: str) -> RecommenderBackend:
        if find_spec("faiss") is None:
            raise ModelRefused(f"{folder.name} needs faiss, which is not installed: `./millrace setup recommendation`")
        backend = RecommenderBackend(Recommender.load(folder))
        someone = UserHistory(backend.recommender.items.ids[:1], ["view"] * len(backend.recommender.items.ids[:1]), [1.0])
        backend.recommender.rank([someone], *self._retrieved(backend.recommender, [someone]))  # warm, and of the right shapes
        backend.recommender.reasons(someone, np.zeros(min(1, len(backend.recommender.items)), np.int32))
        _ = self.settings  # a bad one stops the start
        return backend

    def _retrieved(self, recommender: Recommender, users: Sequence[UserHistory]) -> tuple[Floats, list[ItemRows]]:
        embeddings = recommender.embed(users)
        return embeddings, recommender.candidates(embeddings, self.settings.max_candidates, [()] * len(users))

    def take_items(self, backend: RecommenderBackend, changes: Sequence[ItemChange], catalogue: Collection[str] | None) -> None:
        """An item that cannot be embedded is left out, as it was before. catalogue: see `TakeItems`."""
        for change in changes:
            try:
                _take_item(backend.recommender, change)
            except Exception as error:
                structlog.get_logger().warning("item not taken", item=change.item_id, cause=f"{type(error).__name__}: {error}")
        if catalogue is not None and (gone := backend.recommender.keep_only(catalogue)):
            structlog.get_logger().info("items that the catalogue lacks are left out", items=gone)

    # --- requests ------------------------------------------------------------------------------------------------

    def prepare(self, columns: Columns, versions: Versions, media: MediaReader) -> Prepared:
        found: list[Asked] = []
        refused: dict[int, RecordError] = {}
        for row, asked in enumerate(requests_of(columns, self._seen_kinds)):
            if isinstance(asked, RecordError):
                refused[row] = asked
            else:
                found.append(asked)
        return Prepared(found, refused)

    @cached_property
    def _seen_kinds(self) -> frozenset[str]:
        return frozenset(self.settings.seen_kinds.split())

    # --- answers -------------------------------------------------------------------------------------------------

    def predict(self, inputs: Sequence[Asked], versions: Versions) -> Prediction:
        version = versions[MODEL]
        recommender: Recommender = version.backend.recommender
        users = [asked.history for asked in inputs]
        maker = AnswerMaker(recommender, self.settings)
        (embeddings, ranked, notes), compute_ms = timed(lambda: maker.ranked(inputs))
        answers = [maker.answer(*one) for one in zip(inputs, ranked, notes, strict=True)]
        top = np.array([[float(one.scores[0]) if len(one.scores) else 0.0] for one in ranked], "<f4")
        use = Use(
            version,
            top,
            compute_ms,
            signals={
                "history_events": np.array([len(user.items) for user in users], "<f4"),
                "candidates": np.array([answer.candidates for answer in answers], "<f4"),
            },
            # Each answer says that the user will engage with one of its items: a label says whether that was so.
            thresholds=np.array([np.finfo(np.float32).min], "<f4"),
            labels=("engaged",),
            seen=ServedTexts(inputs),
            embedding=np.ascontiguousarray(embeddings, np.float32),
        )
        live = len(recommender.items.rows)
        return Prediction(
            {
                "user_id": [asked.user_id for asked in inputs],
                "basis": [str(recommender.basis(user)) for user in users],
                "items": [answer.items for answer in answers],
                "candidates": np.array([answer.candidates for answer in answers], np.int64),
                "seen": np.array([len(asked.seen) for asked in inputs], np.int64),
                "index_version": [recommender.index_version] * len(inputs),
                "index_items": np.full(len(inputs), live, np.int64),
                "feature_values": [list(asked.values) for asked in inputs],
                "notes": [answer.notes for answer in answers],
            },
            [use],
        )


def _take_item(recommender: Recommender, change: ItemChange) -> None:
    table = recommender.items
    row = table.rows.get(change.item_id)
    if change.title is None:
        if row is not None:
            recommender.remove(change.item_id)
        return
    attributes: dict[str, str | float] = {"category": (change.category or "")[:MAX_TITLE_CHARS]}
    if change.price_cents is not None:
        attributes["price_cents"] = float(change.price_cents)
    title = change.title[:MAX_TITLE_CHARS]
    if row is not None and table.titles[row] == title and attributes.items() <= dict(table.attributes[row]).items():
        return
    recommender.add(change.item_id, title, attributes)


TASK = Recommendation()
