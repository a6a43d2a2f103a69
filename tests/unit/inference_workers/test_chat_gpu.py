"""The chat engine on a GPU: the same answers as transformers, captured or not, alone or among others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from inference_workers.chat.gpu.cuda_graphs import GraphedLlama
from inference_workers.chat.settings import Weights
from tests.support.generating import PROMPTS, alone, chat_model, generation, ids, run
from tests.support.tiny_llama import tiny_llama

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
FULL = {"weights": Weights.FLOAT32}
KERNEL = pytest.mark.parametrize("kernel", [False, True], ids=["copied", "kernel"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("llama"))


@KERNEL
def test_float32_answers_as_transformers_generate_does(folder: Path, kernel: bool) -> None:
    network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().cuda()
    expected = {}
    for number, prompt in enumerate(PROMPTS):
        with torch.inference_mode():
            whole = network.generate(torch.tensor([prompt]).cuda(), max_new_tokens=24, do_sample=False, pad_token_id=0)
        expected[f"r{number}"] = whole[0, len(prompt) :].tolist()
    asked = [generation(number, prompt) for number, prompt in enumerate(PROMPTS)]
    assert ids(run(chat_model(folder, **FULL, attention_kernel=kernel).engine, *asked)) == expected


@KERNEL
@pytest.mark.parametrize("weights", [Weights.FLOAT32, Weights.BFLOAT16])
def test_captured_steps_choose_the_same_tokens(folder: Path, weights: Weights, kernel: bool) -> None:
    asked = [generation(n, prompt, temperature=n % 2, top_p=0.9, seed=n, max_tokens=40) for n, prompt in enumerate(PROMPTS)]
    captured: Any = chat_model(folder, weights=weights, attention_kernel=kernel).engine
    plain: Any = chat_model(folder, weights=weights, attention_kernel=kernel).engine
    assert isinstance(captured._network, GraphedLlama)
    plain._network = plain._network._network
    assert ids(run(captured, *asked)) == ids(run(plain, *asked))
    assert captured._network._graphs


@KERNEL
def test_an_answer_is_the_same_alone_preempted_and_with_a_shared_prefix(folder: Path, kernel: bool) -> None:
    asked = [generation(n, PROMPTS[6] + prompt[:9], temperature=n % 2, seed=n, max_tokens=60) for n, prompt in enumerate(PROMPTS)]
    expected = alone(folder, asked, **FULL, attention_kernel=kernel)
    engine = chat_model(folder, **FULL, kv_tokens=400, attention_kernel=kernel).engine
    assert ids(run(engine, asked[0])) | ids(run(engine, *asked[1:])) == expected
    assert engine.figures().preemptions > 0
    assert engine.figures().prefix_hit_tokens > 0
