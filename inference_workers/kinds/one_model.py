"""What tasks with one model share: names and topics from their declaration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from inference_workers.networks.visible_text import visible
from inference_workers.task import Prepared
from processors.features.enrich import Need
from schemas.columns import Columns
from schemas.declared.task_kinds import OptionValue
from schemas.errors import InvalidRequest, RecordError
from schemas.topic_kinds import Consumption, Topic

MAX_CHARS = 100_000


class OneModel:
    """Base of a task that one model answers. options: those of its kind in `schemas/declared/task_kinds.py`."""

    reads_media = False
    needs: Sequence[Need] = ()

    def __init__(
        self, consumption: Consumption, model: str, source: str, options: Mapping[str, OptionValue] | None = None
    ) -> None:
        assert consumption.results is not None
        self.name, self.consumption = consumption.group, consumption
        self.results: Topic[Any] = consumption.results
        self.model, self.options = model, dict(options or {})
        self.models: Mapping[str, str] = {model: source}


def texts_of(columns: Columns, cleaned: Callable[[str], str] = visible) -> Prepared:
    """The texts of requests, by default without invisible characters. An empty text and one that is too long are refused."""
    inputs: list[str] = []
    refused: dict[int, RecordError] = {}
    for row, raw in enumerate(columns.text("text")):
        text = cleaned(raw or "")
        if not text.strip():
            refused[row] = InvalidRequest("the text is empty")
        elif len(text) > MAX_CHARS:
            refused[row] = InvalidRequest(f"the text has {len(text)} characters; at most {MAX_CHARS} are allowed")
        else:
            inputs.append(text)
    return Prepared(inputs, refused)


def text_chars(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """A drift signal of n texts: their lengths, float32 (n,)."""
    return np.array([len(text) for text in texts], "<f4")
