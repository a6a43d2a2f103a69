"""Text to text: translations, and other texts that a model makes of a text, such as summaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference_workers.backends.backend import Backend, Translated, Translator
from inference_workers.backends.choose import translator
from inference_workers.kinds.one_model import OneModel, text_chars
from inference_workers.media.reader import MediaReader
from inference_workers.models.folder import ModelFolder
from inference_workers.networks.visible_text import typed
from inference_workers.task import Prediction, Prepared, Use, Versions
from schemas.columns import Columns
from schemas.errors import InvalidRequest, ModelRefused, RecordError
from streams.clock import timed

MAX_CHARS = 20_000


@dataclass(frozen=True, slots=True)
class TextToTextInput:
    text: str
    source: str
    target: str


class TextToText(OneModel):
    def load(self, folder: ModelFolder, model: str) -> Backend:
        backend = translator(folder)
        source, target = min(backend.pairs, default=("en", "fr"))
        answers = backend.translate(["Hello.", "A second one, so that there is a batch."], source, target)
        if len(answers) != 2:
            raise ModelRefused(f"{folder.path}: {len(answers)} answers to two texts")
        return backend

    def prepare(self, columns: Columns, versions: Versions, media: MediaReader) -> Prepared:
        pairs: frozenset[tuple[str, str]] = versions[self.model].backend.pairs
        inputs: list[TextToTextInput] = []
        refused: dict[int, RecordError] = {}
        requests = zip(columns.text("text"), columns.text("source"), columns.text("target"), strict=True)
        for row, (raw_text, source, target) in enumerate(requests):
            text, pair = typed(raw_text or ""), pair_of(source or "", target or "", pairs)
            if not text:
                refused[row] = InvalidRequest("the text is empty: there is nothing to answer")
            elif len(text) > MAX_CHARS:
                refused[row] = InvalidRequest(f"the text has {len(text)} characters; at most {MAX_CHARS} are allowed")
            elif pair is None:
                supported = ", ".join(sorted(f"{from_} to {to}" for from_, to in pairs))
                refused[row] = InvalidRequest(f"this model does not translate {source} to {target}; it supports {supported}")
            else:
                inputs.append(TextToTextInput(text, *pair))
        return Prepared(inputs, refused)

    def predict(self, inputs: Sequence[TextToTextInput], versions: Versions) -> Prediction:
        version = versions[self.model]
        answers, compute_ms = timed(lambda: _translated(version.backend, inputs))
        scores = np.array([answer.score for answer in answers], "<f4")
        return Prediction(
            results={
                "text": [answer.text for answer in answers],
                "source": [request.source for request in inputs],
                "target": [request.target for request in inputs],
                "score": scores,
                "truncated": [answer.truncated for answer in answers],
            },
            uses=[
                Use(
                    version,
                    scores[:, None],
                    compute_ms,
                    signals={"text_chars": text_chars([request.text for request in inputs]), "score": scores},
                )
            ],
        )


def _translated(backend: Translator, inputs: Sequence[TextToTextInput]) -> list[Translated]:
    """Answers in the order of the inputs; requests of one pair of languages go to the model together."""
    answers: dict[int, Translated] = {}
    for pair in {(request.source, request.target) for request in inputs}:
        rows = [row for row, request in enumerate(inputs) if (request.source, request.target) == pair]
        answers |= zip(rows, backend.translate([inputs[row].text for row in rows], *pair), strict=True)
    return [answers[row] for row in range(len(inputs))]


def pair_of(source: str, target: str, pairs: frozenset[tuple[str, str]]) -> tuple[str, str] | None:
    """The model's own pair for two language tags (BCP 47), ignoring case and a region that the model does not know. The tags as given
    if the model does not list its pairs (`pairs` is empty); None if it does not have this pair."""
    if not pairs:
        return source, target
    names = {name.casefold(): name for pair in pairs for name in pair}

    def of_model(tag: str) -> str:
        whole = tag.strip().replace("_", "-").casefold()
        return names.get(whole) or names.get(whole.partition("-")[0], tag)

    pair = of_model(source), of_model(target)
    return pair if pair in pairs else None


KIND = TextToText
