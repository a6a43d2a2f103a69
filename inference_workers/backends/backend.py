"""What runs a network, and what a task sees of it.

`Network` is arrays in, arrays out: one protocol for ONNX Runtime, torch and remote servers, one contract suite. A task
speaks of texts, pictures and sounds: the scorers below, made by `choose.py` for whatever the model's source is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from inference_workers.networks.pictures import Fit, Pixels
from inference_workers.networks.speech import Floats, Heard

Arrays = Mapping[str, npt.NDArray[Any]]
Logits = npt.NDArray[np.float64]


class Network(Protocol):
    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Outputs by name. Raises InvalidRequest for inputs that the signature does not allow, RetryLater where a
        server did not answer."""
        ...

    def close(self) -> None: ...


class Backend(Protocol):
    """What a version holds: one of the four below."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Scores:
    """logits: (n, labels). embedding: (n, width), what the network's last layer sees of each; None where it does not say."""

    logits: Logits
    embedding: npt.NDArray[np.float32] | None = None


class TextClassifier(Backend, Protocol):
    labels: tuple[str, ...]

    def classify(self, texts: Sequence[str]) -> Scores: ...


class ImageClassifier(Backend, Protocol):
    labels: tuple[str, ...]
    fit: Fit  # how pictures must be brought to size

    def classify(self, pictures: Sequence[Pixels]) -> Scores: ...


@dataclass(frozen=True, slots=True)
class Translated:
    """score: mean log-probability of a token. truncated: the text was longer than the model reads."""

    text: str
    score: float
    truncated: bool


class Translator(Backend, Protocol):
    pairs: frozenset[tuple[str, str]]  # (source, target) languages; empty where the model does not say

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translated]: ...


class Transcriber(Backend, Protocol):
    rate_hz: int

    def transcribe(self, sounds: Sequence[Floats]) -> list[list[Heard]]:
        """Words of each sound, with times in seconds."""
        ...
