"""Translation: a text from one language into another."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from inference_workers.backends.backend import Backend, Translated, Translator
from inference_workers.backends.choose import translator
from inference_workers.media.reader import MediaReader
from inference_workers.models.folder import ModelFolder
from inference_workers.networks.visible_text import typed
from inference_workers.task import Prediction, Prepared, Use, Versions
from processors.features.enrich import Need
from schemas.columns import Columns
from schemas.errors import InvalidRequest, ModelRefused, RecordError
from schemas.topics import TRANSLATION_RESULTS, consumption

MODEL = "translation-en-fr"
MAX_CHARS = 20_000


@dataclass(frozen=True, slots=True)
class Asked:
    text: str
    source: str
    target: str


class Translation:
    name = "translation"
    consumption = consumption("translation")
    results = TRANSLATION_RESULTS
    reads_media = False
    needs: Sequence[Need] = ()
    models: Mapping[str, str] = {MODEL: f"shipped:{MODEL}"}

    def load(self, folder: ModelFolder, model: str) -> Backend:
        backend = translator(folder)
        source, target = min(backend.pairs, default=("en", "fr"))
        answers = backend.translate(["Hello.", "A second one, so that there is a batch."], source, target)
        if len(answers) != 2:
            raise ModelRefused(f"{folder.path}: {len(answers)} answers to two texts")
        return backend

    def prepare(self, columns: Columns, versions: Versions, media: MediaReader) -> Prepared:
        pairs: frozenset[tuple[str, str]] = versions[MODEL].backend.pairs
        inputs: list[Asked] = []
        refused: dict[int, RecordError] = {}
        asked = zip(columns.text("text"), columns.text("source"), columns.text("target"), strict=True)
        for row, (written, source, target) in enumerate(asked):
            text, pair = typed(written or ""), pair_of(source or "", target or "", pairs)
            if not text:
                refused[row] = InvalidRequest("the text is empty: there is nothing to translate")
            elif len(text) > MAX_CHARS:
                refused[row] = InvalidRequest(f"the text has {len(text)} characters; at most {MAX_CHARS} are read")
            elif pair is None:
                known = ", ".join(sorted(f"{one} to {other}" for one, other in pairs))
                refused[row] = InvalidRequest(f"{source} to {target} is not a pair of this model; it has {known}")
            else:
                inputs.append(Asked(text, *pair))
        return Prepared(inputs, refused)

    def predict(self, inputs: Sequence[Asked], versions: Versions) -> Prediction:
        version = versions[MODEL]
        backend: Translator = version.backend
        begun_s = time.perf_counter()
        found: list[Translated | None] = [None] * len(inputs)
        for pair in {(one.source, one.target) for one in inputs}:
            rows = [i for i, one in enumerate(inputs) if (one.source, one.target) == pair]
            for i, answer in zip(rows, backend.translate([inputs[i].text for i in rows], *pair), strict=True):
                found[i] = answer
        compute_ms = (time.perf_counter() - begun_s) * 1000
        answers = [one for one in found if one is not None]
        scores = np.array([one.score for one in answers], "<f4")
        return Prediction(
            results={
                "text": [one.text for one in answers],
                "source": [one.source for one in inputs],
                "target": [one.target for one in inputs],
                "score": scores,
                "truncated": [one.truncated for one in answers],
            },
            uses=[
                Use(
                    version, scores[:, None], compute_ms,
                    signals={"text_chars": np.array([len(one.text) for one in inputs], "<f4"), "score": scores},
                )
            ],
        )  # fmt: skip


def pair_of(source: str, target: str, pairs: frozenset[tuple[str, str]]) -> tuple[str, str] | None:
    """The model's own pair for two language tags (BCP 47): whatever their case, and with a region that the model does not know left
    out. As given where the model does not say its pairs; None where it has none."""
    if not pairs:
        return source, target
    names = {name.casefold(): name for pair in pairs for name in pair}

    def known(tag: str) -> str:
        whole = tag.strip().replace("_", "-").casefold()
        return names.get(whole) or names.get(whole.partition("-")[0], tag)

    pair = known(source), known(target)
    return pair if pair in pairs else None


TASK = Translation()
