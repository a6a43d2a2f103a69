"""Running chat engines in tests: generations in, whole answers out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from inference_workers.chat.chat_model import ChatModel
from inference_workers.chat.engine import Engine, Finished, Generation, Sampling, Token
from inference_workers.chat.load import load
from inference_workers.chat.settings import EngineSettings, Weights
from streams.clock import ManualClock

PROMPTS = [
    tuple(3 + (7 * n + 3 * k * k) % 250 for k in range(length)) for n, length in enumerate((1, 5, 16, 17, 33, 64, 90, 130))
]


def chat_model(folder: Path, **changes: Any) -> ChatModel:
    """A small engine: blocks of 8 tokens, 16 tokens a step. changes: of its settings."""
    small: dict[str, Any] = {
        "weights": Weights.FLOAT16,
        "block_tokens": 8,
        "step_tokens": 16,
        "kv_tokens": 4_096,
        "max_running": 8,
    }
    return load(folder, EngineSettings(**{**small, **changes}), ManualClock())


def generation(number: int, prompt: tuple[int, ...], **sampling: Any) -> Generation:
    return Generation(f"r{number}", prompt, sampling=Sampling(**{"max_tokens": 24, **sampling}))


def run(engine: Engine, *generations: Generation, max_steps: int = 10_000) -> dict[str, tuple[list[Token], Finished]]:
    """Tokens and end of each generation. Fails if the engine does not come to an end, or says anything after an end."""
    for one in generations:
        engine.add(one)
    tokens: dict[str, list[Token]] = {one.request_id: [] for one in generations}
    ends: dict[str, Finished] = {}
    for _ in range(max_steps):
        if not engine.busy:
            break
        for event in engine.step():
            assert event.request_id not in ends
            if isinstance(event, Finished):
                ends[event.request_id] = event
            else:
                assert isinstance(event, Token), event
                tokens.setdefault(event.request_id, []).append(event)
    assert not engine.busy
    return {name: (tokens.get(name, []), end) for name, end in ends.items()}


def ids(answers: dict[str, tuple[list[Token], Finished]]) -> dict[str, list[int]]:
    return {name: [token.token for token in tokens] for name, (tokens, _) in answers.items()}


def alone(folder: Path, generations: list[Generation], **changes: Any) -> dict[str, list[int]]:
    """Each generation in an engine that does nothing else, without a prefix cache and with the whole prompt in one step."""
    model = chat_model(folder, **{**changes, "prefix_cache": False, "step_tokens": 4_096, "kv_tokens": 4_096})
    return {name: tokens for one in generations for name, tokens in ids(run(model.engine, one)).items()}


def resumed(one: Generation, emitted: list[int]) -> Generation:
    return dataclasses.replace(one, emitted=tuple(emitted))
