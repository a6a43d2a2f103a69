"""What 8-bit weights cost: perplexity on text that no calibration saw, and answers that change. The reference is float32.

`python -m tests.benchmarks.chat_quality FOLDER TEXTS` prints one JSON object. TEXTS: a file with a sentence per line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from inference_workers.chat.chat_model import ChatModel
from inference_workers.chat.conversation import Message
from inference_workers.chat.engine import Finished, Generation, Sampling, Token
from inference_workers.chat.llama import StepRows
from inference_workers.chat.load import load
from inference_workers.chat.settings import EngineSettings, Weights
from streams.clock import SystemClock

WINDOW, MOST_TOKENS, ANSWER_TOKENS = 256, 4_096, 32
QUESTIONS = (
    "What is the capital of France?",
    "Name three primary colours.",
    "Why is the sky blue?",
    "Write one sentence about the sea.",
    "What is 7 plus 5?",
    "Who wrote Hamlet?",
    "How do I boil an egg?",
    "What is a noun?",
    "Give me a name for a cat.",
    "What do bees make?",
    "Translate 'good morning' to French.",
    "What is the largest planet?",
    "How many days has a week?",
    "What is photosynthesis?",
    "Write a short poem about rain.",
    "What is the opposite of hot?",
    "What is a computer?",
    "Where do penguins live?",
    "What is water made of?",
    "Tell me a fact about the moon.",
)


def perplexity(model: ChatModel, texts: list[str]) -> float:
    """Of the texts, joined, in windows."""
    tokens = np.array(model.template.plain("\n".join(texts))[:MOST_TOKENS], np.int64)
    network: Any = model.engine
    losses: list[float] = []
    for start in range(0, len(tokens) - WINDOW, WINDOW):
        window = tokens[start : start + WINDOW]
        rows = np.stack([np.zeros(WINDOW), np.arange(WINDOW)], 1).astype(np.int32)
        blocks = np.arange(WINDOW // 16, dtype=np.int32)[None]
        logits = network._network.logits(StepRows(window, rows, blocks, np.arange(WINDOW - 1))).rows.astype(np.float64)
        shifted = logits - logits.max(1, keepdims=True)
        losses += (np.log(np.exp(shifted).sum(1)) - shifted[np.arange(WINDOW - 1), window[1:]]).tolist()
    return float(np.exp(np.mean(losses)))


def answers(model: ChatModel) -> list[list[int]]:
    tokens: dict[str, list[int]] = {question: [] for question in QUESTIONS}
    for question in QUESTIONS:
        prompt = model.template.prompt([Message("user", question)], 1_000).tokens
        model.engine.add(Generation(question, prompt, sampling=Sampling(max_tokens=ANSWER_TOKENS)))
    while model.engine.busy:
        for event in model.engine.step():
            if isinstance(event, Token):
                tokens[event.request_id].append(event.token)
            assert not isinstance(event, Finished) or event.reason in ("stop", "length")
    return [tokens[question] for question in QUESTIONS]


def main() -> None:
    texts = Path(sys.argv[2]).read_text().splitlines()
    measured: dict[str, Any] = {}
    reference: list[list[int]] = []
    for weights in (Weights.FLOAT32, Weights.FLOAT16, Weights.INT8):
        model = load(Path(sys.argv[1]), EngineSettings(weights=weights, kv_tokens=4_096), SystemClock())
        given = answers(model)
        reference = reference or given
        changed = sum(one != other for one, other in zip(given, reference, strict=True))
        measured[weights.value] = {"perplexity": perplexity(model, texts), "changed_answers": changed, "answers": len(given)}
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
