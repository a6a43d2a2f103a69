"""What runs on a GPU, by Triton's interpreter on a CPU: the kernel against attention over copied blocks, and an engine with the kernel and
with padded steps against the engine of a CPU. Only the capture of a graph needs the GPU: test_chat_gpu.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.settings import ROOT
from tests.support.tiny_llama import tiny_llama

pytest.importorskip("triton", reason="PyTorch brings Triton on Linux alone")

PROGRAM = """
import sys
import torch
from inference_workers.chat.gpu.attention_kernel import attend
from inference_workers.chat.gpu.torch_operations import gathered
torch.manual_seed(0)
for count, kv_heads, group, head, size, width in ((3, 2, 2, 8, 8, 5), (2, 1, 3, 64, 16, 20), (1, 1, 1, 16, 4, 1), (1, 1, 20, 8, 16, 17)):
    keys, values = torch.randn(2, width * count + 1, size, kv_heads, head)
    tables = torch.randperm(width * count).view(count, width)
    positions = torch.randint(0, width * size, (count, 3))[:, 1]  # a column: rows and their places are one table
    positions[0], positions[1:2] = width * size - 1, 0
    queries = torch.randn(count, kv_heads, group, head)
    torch.testing.assert_close(attend(queries, keys, values, tables, positions), gathered(queries, keys, values, tables, positions))

from pathlib import Path
from inference_workers.chat import load
from inference_workers.chat.gpu.cuda_graphs import Graph, GraphedLlama
from inference_workers.chat.gpu.torch_operations import TorchOperations
from inference_workers.chat.settings import Weights
from tests.support.generating import PROMPTS, chat_model, generation, ids, run

folder, cpu = Path(sys.argv[1]), torch.device("cpu")
asked = [generation(number, prompt, max_tokens=8) for number, prompt in enumerate(PROMPTS[2:5])]
expected = ids(run(chat_model(folder, weights=Weights.FLOAT32).engine, *asked))
made = []


def elsewhere(config, blocks, size, threads):
    made.append(TorchOperations(config, blocks, size, torch.float32, cpu, kernel=True))
    return made[-1]


load.CpuOperations = elsewhere
Graph._captured = lambda self, compute: torch.inference_mode()(compute)
engine = chat_model(folder, weights=Weights.FLOAT32).engine
engine._network = GraphedLlama(engine._network, made[-1], cpu)
assert ids(run(engine, *asked)) == expected
assert sorted(engine._network._graphs) == [(1, 8), (2, 8), (4, 8)], engine._network._graphs
print("equal")
"""


def test_a_gpu_computes_what_a_cpu_does(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, str(tiny_llama(tmp_path))],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0 and "equal" in done.stdout, done.stderr
