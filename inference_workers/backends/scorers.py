"""Classifiers, translator and transcriber of the networks that this project trains: preprocessing around a `Network`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from inference_workers.backends.backend import Logits, Network, Scores, Translated
from inference_workers.models.folder import ModelFolder
from inference_workers.models.known_words import known_words, plain
from inference_workers.networks import speech
from inference_workers.networks.beam_search import beam_search
from inference_workers.networks.ngrams import ngram_inputs
from inference_workers.networks.pictures import Fit, Pixels
from inference_workers.networks.speech import Floats, Heard
from inference_workers.networks.tokens import SentenceTokenizer, TranslationTokenizer, pad
from schemas.errors import ModelRefused

MakeNetwork = Callable[[ModelFolder, str], Network]
PICTURES_AT_ONCE = 64
TEXTS_AT_ONCE = 32
SOUNDS_AT_ONCE = 32


class HashedTextClassifier:
    def __init__(self, folder: ModelFolder, make: MakeNetwork) -> None:
        self.labels = folder.coverage
        self._known = known_words(folder)
        self._network = make(folder, "model.onnx")

    def classify(self, texts: Sequence[str]) -> Scores:
        return Scores(_finite(self._network.run(ngram_inputs(plain(texts, self._known)))["logits"]))

    def close(self) -> None:
        self._network.close()


class EncodedTextClassifier:
    """Hashed n-grams and a sentence encoder in one network. Texts of similar length go together, at most TEXTS_AT_ONCE."""

    def __init__(self, folder: ModelFolder, make: MakeNetwork) -> None:
        self.labels = folder.coverage
        self._known = known_words(folder)
        self._tokenizer = SentenceTokenizer(folder.path / "tokenizer.json")
        self._network = make(folder, "model.onnx")

    def classify(self, texts: Sequence[str]) -> Scores:
        judged = plain(texts, self._known)
        logits: list[Any] = [None] * len(texts)
        embeddings: list[Any] = [None] * len(texts)
        for group in buckets([len(text) for text in judged]):
            for at in range(0, len(group), TEXTS_AT_ONCE):
                rows = group[at : at + TEXTS_AT_ONCE]
                some = [judged[row] for row in rows]
                tokens, mask = self._tokenizer.encode(some)
                out = self._network.run({**ngram_inputs(some), "tokens": tokens, "mask": mask})
                for row, by_text, embedding in zip(rows, out["logits"], out["embedding"], strict=True):
                    logits[row], embeddings[row] = by_text, embedding
        return Scores(_finite(np.stack(logits)), np.stack(embeddings))

    def close(self) -> None:
        self._network.close()


class ConvImageClassifier:
    def __init__(self, folder: ModelFolder, make: MakeNetwork) -> None:
        self.labels = folder.coverage
        self.fit = Fit.of(folder.config)
        self._network = make(folder, "model.onnx")

    def classify(self, pictures: Sequence[Pixels]) -> Scores:
        """pictures: uint8 (height, width, channels), resized by `fit`."""
        parts = [pictures[at : at + PICTURES_AT_ONCE] for at in range(0, len(pictures), PICTURES_AT_ONCE)]
        outs = [self._network.run({"pixels": np.stack(part)}) for part in parts]
        has_embedding = all("embedding" in out for out in outs)  # older versions do not return it
        embedding = np.concatenate([out["embedding"] for out in outs]) if has_embedding else None
        return Scores(_finite(np.concatenate([out["logits"] for out in outs])), embedding)

    def close(self) -> None:
        self._network.close()


class SentenceTranslator:
    """Translation by the network of `networks/translator.py`; sentences of similar length go together."""

    def __init__(self, folder: ModelFolder, make: MakeNetwork) -> None:
        config = folder.config
        self.pairs = frozenset((source, target) for source, target in config["pairs"])
        self._beam, self._limit = int(config["beam"]), int(config["max_tokens"])
        self._tokenizer = TranslationTokenizer(
            folder.path / "tokenizer.json", sorted({language for pair in self.pairs for language in pair})
        )
        if self._tokenizer.vocabulary != config["shape"]["vocabulary"]:
            raise ModelRefused(f"{folder.path}: tokenizer and network have different vocabularies")
        self._layers, self._width = int(config["shape"]["decoder_layers"]), int(config["shape"]["width"])
        self._encoder, self._decoder = make(folder, "encoder.onnx"), make(folder, "decoder.onnx")

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translated]:
        rows, cut = self._tokenizer.encode(texts, [target] * len(texts), self._limit)
        answers: dict[int, Translated] = {}
        for bucket in buckets([len(row) for row in rows]):
            best = self._search([rows[i] for i in bucket])
            decoded = self._tokenizer.decode([tokens for tokens, _ in best])
            for i, text, (_, score) in zip(bucket, decoded, best, strict=True):
                answers[i] = Translated(text, score, cut[i])
        return [answers[i] for i in range(len(texts))]

    def _search(self, rows: list[list[int]]) -> list[tuple[list[int], float]]:
        tokens = pad(rows)
        memory = self._encoder.run({"tokens": tokens})
        states = np.zeros((self._layers, len(rows), self._width), np.float32)

        def step(last: Any, states: Any, which: Any) -> Any:
            out = self._decoder.run(
                {
                    "tokens": last[:, None],
                    "states": states,
                    "keys": memory["keys"][:, which],
                    "values": memory["values"][:, which],
                    "mask": memory["mask"][which],
                }
            )
            return out["log_probabilities"], out["after"]

        return beam_search(step, states, 2 * tokens.shape[1] + 8, self._beam)

    def close(self) -> None:
        self._encoder.close()
        self._decoder.close()


def buckets(lengths: Sequence[int]) -> list[list[int]]:
    """Row numbers grouped by length: the longest of a group is at most 1.25 times its shortest, plus 2."""
    groups: list[list[int]] = []
    first = 0
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not groups or lengths[i] > first * 1.25 + 2:
            groups.append([])
            first = lengths[i]
        groups[-1].append(i)
    return groups


class DigitTranscriber:
    """Transcription by the network of `networks/listener.py`."""

    def __init__(self, folder: ModelFolder, make: MakeNetwork) -> None:
        config = folder.config
        self.rate_hz = int(config["rate_hz"])
        self._vocabulary, self._frame_s, self._blank = config["vocabulary"], float(config["frame_s"]), int(config["blank"])
        if self.rate_hz != speech.RATE_HZ:
            raise ModelRefused(f"{folder.path}: features need {speech.RATE_HZ} samples per second, not {self.rate_hz}")
        self._network = make(folder, "model.onnx")

    def transcribe(self, sounds: Sequence[Floats]) -> list[list[Heard]]:
        """sounds: mono, float32 (t,), at `rate_hz`. Sounds of similar length go together."""
        features = [speech.log_mel(sound) for sound in sounds]
        transcripts: list[list[Heard]] = [[] for _ in sounds]
        order = sorted(range(len(features)), key=lambda i: len(features[i]))
        for at in range(0, len(order), SOUNDS_AT_ONCE):
            group = order[at : at + SOUNDS_AT_ONCE]
            padded, lengths = speech.pad([features[i] for i in group])
            out = np.exp(self._network.run({"features": padded, "lengths": lengths})["log_probabilities"])
            for i, row, frames in zip(group, out, ((lengths + 3) // 4).tolist(), strict=True):
                transcripts[i] = speech.best_path(row[:frames], self._vocabulary, self._frame_s, self._blank)
        return transcripts

    def close(self) -> None:
        self._network.close()


def _finite(logits: Any) -> Logits:
    as_float64: Logits = logits.astype(np.float64)
    if not np.isfinite(as_float64).all():
        raise ValueError("a logit of the model is NaN or infinite")
    return as_float64
