"""A model folder as an engine and its chat template."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from inference_workers.chat.conversation import ChatTemplate
from inference_workers.chat.engine import Engine
from inference_workers.chat.settings import EngineSettings
from schemas.errors import ModelRefused
from streams.clock import Clock


@dataclass(frozen=True)
class ChatModel:
    """engine: driven by one thread. context_tokens: the most tokens that prompt and answer may have together."""

    engine: Engine
    template: ChatTemplate
    context_tokens: int


def load(folder: Path, settings: EngineSettings, clock: Clock) -> ChatModel:
    """Read a checkpoint in the Hugging Face layout. Raises ModelRefused if its architecture is not known, or a file is damaged."""
    raise ModelRefused(f"{folder}: no engine yet")
