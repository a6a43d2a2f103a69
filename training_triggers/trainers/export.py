"""A trained model as a folder: safetensors, ONNX by torch's dynamo exporter, card, signature, manifest.

The ONNX file is run at batches of 1, 3 and 64 and several widths; its logits must be torch's within ATOL.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors.torch import save_file

from inference_workers.networks.folder import write_manifest
from inference_workers.networks.hashed_linear import INPUTS, HashedLinear
from inference_workers.networks.ngrams import CHAR_BITS, WORD_BITS
from schemas.errors import ModelRefused
from training_triggers.trainers.card import moderation_card
from training_triggers.trainers.moderation_data import CATEGORIES
from training_triggers.trainers.moderation_text import NAME, Report, Weights

ATOL = 1e-4
OPSET = 20


def network_of(weights: Weights, coverage: tuple[str, ...]) -> HashedLinear:
    chosen = [CATEGORIES.index(category) for category in coverage]
    network = HashedLinear(2**WORD_BITS, 2**CHAR_BITS, len(coverage))
    network.load_state_dict({
        "word_weights": torch.tensor(weights.word[:, chosen]).half(),
        "word_idf": torch.tensor(weights.word_idf).half(),
        "char_weights": torch.tensor(weights.char[:, chosen]).half(),
        "char_idf": torch.tensor(weights.char_idf).half(),
        "bias": torch.tensor(weights.bias[chosen]),
    })  # fmt: skip
    return network.eval()


def example(n: int, word_width: int, char_width: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    random = torch.Generator().manual_seed(seed)
    made = []
    for width, bits in ((word_width, WORD_BITS), (char_width, CHAR_BITS)):
        made.append(torch.randint(0, 2**bits, (n, width), generator=random))
        made.append(torch.randint(0, 4, (n, width), generator=random).float())
    return tuple(made)


def export(network: HashedLinear, file: Path) -> float:
    """Write the ONNX file; the largest difference to torch. Raises ModelRefused where it passes ATOL."""
    n, words, chars = (torch.export.Dim(name, min=1, max=2**20) for name in ("n", "words", "chars"))
    shapes = ({0: n, 1: words}, {0: n, 1: words}, {0: n, 1: chars}, {0: n, 1: chars})
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network, example(3, 7, 40), input_names=list(INPUTS), output_names=["logits"], dynamo=True,
            dynamic_shapes=shapes, opset_version=OPSET, external_data=False, verbose=False,
        )  # fmt: skip
    assert program is not None
    program.save(str(file))
    without_traces(file)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch, word_width, char_width in ((1, 1, 1), (1, 30, 250), (3, 7, 40), (64, 50, 900), (64, 1, 300)):
        inputs = example(batch, word_width, char_width, seed=batch + char_width)
        with torch.no_grad():
            expected = network(*inputs).numpy()
        feeds = {name: value.numpy() for name, value in zip(INPUTS, inputs, strict=True)}
        worst = max(worst, float(np.abs(session.run(None, feeds)[0] - expected).max()))
    if worst > ATOL:
        raise ModelRefused(f"{file}: ONNX and torch differ by {worst:.2e}; {ATOL} is allowed")
    return worst


def without_traces(file: Path) -> None:
    """The exporter writes the source lines and paths of each node into the file: they say nothing of the model, and
    would make its digest depend on where it was trained."""
    model = onnx.load(str(file))
    graph = model.graph
    parts: list[Any] = [model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer]
    for function in model.functions:
        parts += [function, *function.node, *function.value_info]
    for part in parts:
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.save(model, str(file))


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter writes its progress to standard output; our own says enough."""
    with Path(os.devnull).open("w") as sink:
        import contextlib

        with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            yield


def write_moderation_text(weights: Weights, report: Report, folder: Path, version: str) -> str:
    """Written beside the target and moved there whole, so that no reader sees half a folder."""
    network = network_of(weights, report.coverage)
    staging = Path(tempfile.mkdtemp(prefix=f"{NAME}-", dir=folder.parent if folder.parent.exists() else None))
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, staging / "model.safetensors")
    difference = export(network, staging / "model.onnx")
    config = {
        "task": "moderation", "network": "hashed_linear", "word_bits": WORD_BITS, "char_bits": CHAR_BITS,
        "coverage": list(report.coverage), "not_covered_because": report.not_covered_because,
        "thresholds": {category: report.thresholds[category] for category in report.coverage},
    }  # fmt: skip
    signature = {
        "inputs": {name: {"dtype": "int64" if "buckets" in name else "float32", "shape": ["n", "width"]} for name in INPUTS},
        "outputs": {"logits": {"dtype": "float32", "shape": ["n", len(report.coverage)]}},
    }
    (staging / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (staging / "signature.json").write_text(json.dumps(signature, indent=2) + "\n")
    (staging / "MODEL_CARD.md").write_text(moderation_card(report, version, difference))
    digest = write_manifest(staging, NAME, version)
    if folder.exists():
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(staging, folder)
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)
    return digest
