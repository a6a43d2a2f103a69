"""A model that answers: its engine, the form of its prompts, and its limits. Without torch: an engine may compute elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference_workers.chat.conversation import ChatTemplate
from inference_workers.chat.engine import Engine
from inference_workers.models.folder import read_fields
from schemas.errors import ModelRefused


@dataclass(frozen=True)
class ChatModel:
    """engine: driven by one thread. context_tokens: the most tokens that prompt and answer may have together. vocabulary: how many
    token ids there are."""

    engine: Engine
    template: ChatTemplate
    context_tokens: int
    vocabulary: int


def ends_of(folder: Path, config: Mapping[str, Any], end: int | None) -> frozenset[int]:
    """The tokens that end an answer. end: the one that the tokenizer names. Raises ModelRefused if none is named."""
    generation = read_fields(folder / "generation_config.json") if (folder / "generation_config.json").is_file() else {}
    named = [config.get("eos_token_id"), generation.get("eos_token_id"), end]
    ends = frozenset(token for one in named if one is not None for token in (one if isinstance(one, list) else [one]))
    if not ends:
        raise ModelRefused(f"{folder} names no token that ends an answer")
    return ends
