"""Embedding: a text as a vector."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np

from inference_workers.backends.backend import Backend, TextEncoder
from inference_workers.backends.choose import text_encoder
from inference_workers.kinds.one_model import OneModel, text_chars, texts_of
from inference_workers.media.reader import MediaReader
from inference_workers.models.folder import ModelFolder
from inference_workers.task import Prediction, Prepared, Use, Versions
from schemas.columns import Columns
from schemas.declared.task_kinds import OptionValue
from schemas.encoding import Constant
from streams.clock import timed


class Embedding(OneModel):
    """The prediction log keeps the vector as embedding, so that drift detection sees new topics; its output is the vector's length."""

    def load(self, folder: ModelFolder, model: str) -> Backend:
        pooling, normalise = self.options.get("pooling"), self.options.get("normalise")
        encoder = text_encoder(folder, None if pooling is None else str(pooling), None if normalise is None else bool(normalise))
        encoder.embed(["Hello.", "A second text, so that there is a batch."])
        return encoder

    def prepare(self, columns: Columns, versions: Versions, media: MediaReader) -> Prepared:
        return texts_of(columns)

    def predict(self, inputs: Sequence[str], versions: Versions) -> Prediction:
        version = versions[self.model]
        encoder: TextEncoder = version.backend
        embedded, compute_ms = timed(lambda: encoder.embed(inputs))
        lengths = np.linalg.norm(embedded.vectors, axis=1).astype("<f4")
        return Prediction(
            results={
                "embedding": embedded.vectors,
                "truncated": embedded.truncated,
                "space": Constant(space_of(version.folder.digest, self.options)),
            },
            uses=[
                Use(
                    version,
                    lengths[:, None],
                    compute_ms,
                    signals={"text_chars": text_chars(inputs)},
                    seen=inputs,
                    embedding=embedded.vectors,
                )
            ],
        )


def space_of(digest: str, options: Mapping[str, OptionValue]) -> str:
    """16 hexadecimal digits that differ for models, and for options, whose vectors cannot be compared."""
    changing = json.dumps([digest, options.get("pooling"), options.get("normalise")])
    return hashlib.sha256(changing.encode()).hexdigest()[:16]


KIND = Embedding
