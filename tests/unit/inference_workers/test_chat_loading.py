"""Model folders as chat engines: what is refused, and what stays untouched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from inference_workers.chat.calibration import factors
from inference_workers.chat.settings import Weights
from infra.settings import ROOT
from schemas.errors import ModelRefused
from tests.support.generating import chat_model
from tests.support.tiny_llama import tiny_llama


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"model_type": "mamba"}, "'mamba' is not implemented"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_scaling"),
        ({"attention_bias": True}, "attention_bias"),
        ({"num_hidden_layers": 3}, "no weight 'model.layers.2"),
        ({"tie_word_embeddings": False}, "no weight 'lm_head.weight'"),
    ],
)
def test_a_model_that_is_not_known_is_refused_by_name(tmp_path: Path, changes: dict[str, object], word: str) -> None:
    with pytest.raises(ModelRefused, match=word):
        chat_model(tiny_llama(tmp_path, **changes))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    folder = tiny_llama(tmp_path)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelRefused, match=r"model\.safetensors cannot be read"):
        chat_model(folder)
    file.unlink()
    with pytest.raises(ModelRefused, match="no safetensors"):
        chat_model(folder)


def test_a_model_that_names_no_end_is_refused(tmp_path: Path) -> None:
    folder = tiny_llama(tmp_path, eos_token_id=None)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    with pytest.raises(ModelRefused, match="no token that ends an answer"):
        chat_model(folder)


LARGE_PAGES = """
import numpy as np
import psutil

from inference_workers.chat.large_pages import use_large_pages

unused = np.zeros(256 * 2**20, np.uint8)
before = psutil.Process().memory_info().rss
use_large_pages()
assert not unused[::4096].any()
print(psutil.Process().memory_info().rss - before)
"""


def test_large_pages_take_no_memory_for_what_is_not_used() -> None:
    """In a process of its own: this one holds what the tests before it allocated, in parts of large pages."""
    done = subprocess.run(
        [sys.executable, "-c", LARGE_PAGES],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 128 * 2**20


def test_factors_are_powers_of_two_that_move_large_inputs_into_weights() -> None:
    import torch

    made = factors(torch.tensor([1.0, 1.0, 400.0, 0.0]), torch.ones(3, 4))
    assert made.tolist()[:3] == [1.0, 1.0, 16.0]
    assert (made.log2() % 1 == 0).all()


def test_all_kinds_of_weights_answer(tmp_path: Path) -> None:
    folder = tiny_llama(tmp_path)
    for weights in Weights:
        assert chat_model(folder, weights=weights).context_tokens == 512
