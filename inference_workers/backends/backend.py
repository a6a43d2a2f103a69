"""Protocols of what runs a network, and of what a task uses.

`Network` takes and returns arrays: one protocol for ONNX Runtime, torch and remote servers, with one contract suite. Tasks pass
texts, pictures and sounds to a classifier, translator or transcriber, which `choose.py` makes for the model's source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from inference_workers.networks.entities import Entity
from inference_workers.networks.pictures import Fit, Pixels
from inference_workers.networks.speech import Floats, Heard

Arrays = Mapping[str, npt.NDArray[Any]]
Logits = npt.NDArray[np.float64]


class Network(Protocol):
    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Inputs and outputs by name, with dtype and shape as in the version's signature. Raises InvalidRequest for inputs that the
        signature does not allow, RetryLater if a server did not answer."""
        ...

    def close(self) -> None: ...


class Backend(Protocol):
    """The loaded model of a version: one of the protocols below."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Scores:
    """logits: float64 (n, labels). embedding: float32 (n, width), the input of the network's last layer; None if the version does not
    return it. chunks: int64 (n,), into how many pieces each text was split; None if none was."""

    logits: Logits
    embedding: npt.NDArray[np.float32] | None = None
    chunks: npt.NDArray[np.int64] | None = None


class TextClassifier(Backend, Protocol):
    labels: tuple[str, ...]

    def classify(self, texts: Sequence[str]) -> Scores:
        """Scores of all texts, in order."""
        ...


class TokenClassifier(Backend, Protocol):
    def entities(self, texts: Sequence[str]) -> list[list[Entity]]:
        """The entities of each text, in the order of the text."""
        ...


@dataclass(frozen=True, slots=True)
class Embedded:
    """vectors: float32 (n, width). truncated: bool (n,), whether the end of a text was left out."""

    vectors: npt.NDArray[np.float32]
    truncated: npt.NDArray[np.bool_]


class TextEncoder(Backend, Protocol):
    def embed(self, texts: Sequence[str]) -> Embedded:
        """The vector of each text, in order, pooled and scaled as the model says unless the caller chose otherwise."""
        ...


class TableModel(Backend, Protocol):
    """labels: names of the classes; empty if the model predicts a number. numbers, categories: names of its columns; a request may
    have others too, which are ignored. number_types: the dtype of each numeric column. answers_examples: whether it answers rows with
    categories that we make up."""

    labels: tuple[str, ...]
    numbers: tuple[str, ...]
    number_types: Mapping[str, np.dtype[Any]]
    answers_examples: bool
    categories: tuple[str, ...]

    def scores(self, rows: Sequence[Mapping[str, float | str]]) -> npt.NDArray[np.float32]:
        """Float32 (n, labels) probabilities, or float32 (n, 1) predicted numbers. rows: by column, with every column of the model."""
        ...


class ImageClassifier(Backend, Protocol):
    labels: tuple[str, ...]
    fit: Fit  # how pictures must be resized

    def classify(self, pictures: Sequence[Pixels]) -> Scores:
        """pictures: uint8 (height, width, channels), resized by `fit`."""
        ...


@dataclass(frozen=True, slots=True)
class Translated:
    """score: mean log-probability of its tokens. truncated: the source text was longer than the model's limit."""

    text: str
    score: float
    truncated: bool


class Translator(Backend, Protocol):
    pairs: frozenset[tuple[str, str]]  # (source, target) languages; empty if the model does not list them

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translated]:
        """Translations of all texts, in order. Raises InvalidRequest for a language that the model does not know."""
        ...


class Transcriber(Backend, Protocol):
    rate_hz: int

    def transcribe(self, sounds: Sequence[Floats]) -> list[list[Heard]]:
        """Words of each sound, with times in seconds. sounds: mono, float32 (t,), at `rate_hz`."""
        ...


@dataclass(frozen=True, slots=True)
class TextLineRead:
    """probability: mean of its characters. box: four corners (x, y) in pixels of the picture, from the line's top left clockwise."""

    text: str
    probability: float
    box: tuple[tuple[float, float], ...]


class OcrReader(Backend, Protocol):
    fit: Fit  # how pictures should be decoded; any size is read

    def read(self, pictures: Sequence[Pixels]) -> list[list[TextLineRead]]:
        """The lines of text of each picture, in reading order. pictures: uint8 (height, width, 3)."""
        ...
