"""Transcription: speech to words with times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inference_workers.backends.backend import Backend, Transcriber
from inference_workers.backends.choose import transcriber
from inference_workers.kinds.one_model import OneModel
from inference_workers.media.formats import Sound
from inference_workers.media.reader import MediaReader
from inference_workers.models.folder import ModelFolder
from inference_workers.task import Prediction, Prepared, Use, Versions
from schemas.columns import Columns
from schemas.errors import MediaRefused, RecordError
from streams.clock import timed


class Transcription(OneModel):
    reads_media = True

    def load(self, folder: ModelFolder, model: str) -> Backend:
        backend = transcriber(folder)
        noise = np.random.default_rng(0).standard_normal(backend.rate_hz).astype(np.float32) * 0.01
        backend.transcribe([noise, noise[: backend.rate_hz // 2]])
        return backend

    def prepare(self, columns: Columns, versions: Versions, media: MediaReader) -> Prepared:
        sounds = media.sounds(columns.nested("audio"), versions[self.model].backend.rate_hz)
        refused: dict[int, RecordError] = {row: sound for row, sound in enumerate(sounds) if isinstance(sound, MediaRefused)}
        return Prepared([sound for sound in sounds if not isinstance(sound, MediaRefused)], refused)

    def predict(self, inputs: Sequence[Sound], versions: Versions) -> Prediction:
        version = versions[self.model]
        backend: Transcriber = version.backend
        heard, compute_ms = timed(lambda: backend.transcribe([sound.samples for sound in inputs]))
        durations_s = np.array([len(sound.samples) / backend.rate_hz for sound in inputs], "<f4")
        confidences = np.array([np.mean([word.probability for word in words]) if words else 0.0 for words in heard], "<f4")
        return Prediction(
            results={
                "text": [" ".join(word.text for word in words) for words in heard],
                "words": [
                    [
                        {"text": word.text, "start_s": word.start_s, "end_s": word.end_s, "probability": word.probability}
                        for word in words
                    ]
                    for words in heard
                ],
                "duration_s": durations_s,
                "notes": [sound.notes for sound in inputs],
            },
            uses=[
                Use(
                    version,
                    confidences[:, None],
                    compute_ms,
                    signals={
                        "duration_s": durations_s,
                        "loudness": np.array([np.sqrt(np.mean(sound.samples**2)) for sound in inputs], "<f4"),
                        "words": np.array([len(words) for words in heard], "<f4"),
                    },
                )
            ],
        )


KIND = Transcription
