"""The kinds of task that a person can declare: the records of each kind's requests and results, and its options.

A declared task (`declarations.py`) gets its topics from its kind. The code of a kind: `inference_workers/kinds/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from schemas import generated as records
from schemas.topic_kinds import Record


class TaskKind(StrEnum):
    TEXT_CLASSIFICATION = "text-classification"
    TOKEN_CLASSIFICATION = "token-classification"
    EMBEDDING = "embedding"
    IMAGE_CLASSIFICATION = "image-classification"
    OCR = "ocr"
    TRANSCRIPTION = "transcription"
    TEXT_TO_TEXT = "text-to-text"
    TABULAR = "tabular"


class VectorSink(StrEnum):
    PARQUET = "parquet"
    FAISS = "faiss"


OptionValue = bool | int | float | str | tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Option:
    """A key that a declaration may have. type: bool, int, float, str or tuple, which stands for a list of texts. minimum, maximum:
    of a number, inclusive. choices: of a text; empty if every text is allowed."""

    type: type[bool] | type[int] | type[float] | type[str] | type[tuple[str, ...]]
    help: str
    minimum: float = 0
    maximum: float = 0
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class KindOfTask:
    request: type[Record]
    result: type[Record]
    options: Mapping[str, Option] = field(default_factory=dict)


KINDS: Mapping[TaskKind, KindOfTask] = {
    TaskKind.TEXT_CLASSIFICATION: KindOfTask(
        records.TextRequest,
        records.TextClassificationResult,
        {
            "multi_label": Option(type=bool, help="whether several labels can hold at once; by default as the model says"),
            "threshold": Option(
                type=float,
                minimum=0,
                maximum=1,
                help="probability from which a label holds, with several labels; by default as the model says, else 0.5",
            ),
        },
    ),
    TaskKind.TOKEN_CLASSIFICATION: KindOfTask(records.TextRequest, records.TokenClassificationResult),
    TaskKind.EMBEDDING: KindOfTask(
        records.TextRequest,
        records.EmbeddingResult,
        {
            "pooling": Option(
                type=str, choices=("mean", "cls", "max"), help="how token vectors become one; by default as the model says"
            ),
            "normalise": Option(type=bool, help="whether the vector gets length 1; by default as the model says"),
            "sink": Option(
                type=str, choices=tuple(VectorSink), help="where its vectors are kept: parquet files, or those and a faiss index"
            ),
        },
    ),
    TaskKind.IMAGE_CLASSIFICATION: KindOfTask(records.VisionRequest, records.VisionResult),
    TaskKind.OCR: KindOfTask(records.OcrRequest, records.OcrResult),
    TaskKind.TRANSCRIPTION: KindOfTask(records.TranscriptionRequest, records.TranscriptionResult),
    TaskKind.TEXT_TO_TEXT: KindOfTask(records.TranslationRequest, records.TranslationResult),
    TaskKind.TABULAR: KindOfTask(
        records.TabularRequest,
        records.TabularResult,
        {
            "features": Option(
                type=tuple, help="features of the request's user or item from the online store, each as user:NAME or item:NAME"
            ),
            "columns": Option(type=tuple, help="names of the model's columns, in order, if it has one input for all of them"),
            "labels": Option(
                type=tuple, help="names of the model's classes, in the sorted order of its own class names; by default those"
            ),
        },
    ),
}
