"""Token classification: the parts of a text that name something, with their places."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inference_workers.backends.backend import Backend, TokenClassifier
from inference_workers.backends.choose import token_classifier
from inference_workers.kinds.one_model import OneModel, text_chars, texts_of
from inference_workers.media.reader import MediaReader
from inference_workers.models.folder import ModelFolder
from inference_workers.networks.entities import Entity
from inference_workers.task import Prediction, Prepared, Use, Versions
from schemas.columns import Columns
from streams.clock import timed


class TokenClassification(OneModel):
    """Texts stay as they were sent, so that the places of entities count the sender's characters."""

    def load(self, folder: ModelFolder, model: str) -> Backend:
        classifier = token_classifier(folder)
        classifier.entities(["Ada Lovelace lived in London.", "Hello."])
        return classifier

    def prepare(self, columns: Columns, versions: Versions, media: MediaReader) -> Prepared:
        return texts_of(columns, str)

    def predict(self, inputs: Sequence[str], versions: Versions) -> Prediction:
        version = versions[self.model]
        classifier: TokenClassifier = version.backend
        entities, compute_ms = timed(lambda: classifier.entities(inputs))
        confidences = np.array([min((e.probability for e in of_text), default=1.0) for of_text in entities], "<f4")
        counts = np.array([len(of_text) for of_text in entities], "<f4")
        return Prediction(
            results={"entities": [_fields(text, of_text) for text, of_text in zip(inputs, entities, strict=True)]},
            uses=[
                Use(
                    version,
                    confidences[:, None],
                    compute_ms,
                    signals={"text_chars": text_chars(inputs), "entities": counts},
                    seen=inputs,
                )
            ],
        )


def _fields(text: str, entities: Sequence[Entity]) -> list[dict[str, object]]:
    return [
        {
            "label": entity.label,
            "text": text[entity.start : entity.end],
            "start": entity.start,
            "end": entity.end,
            "probability": entity.probability,
        }
        for entity in entities
    ]


KIND = TokenClassification
