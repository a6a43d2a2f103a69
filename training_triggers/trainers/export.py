"""Writes a trained network as a model folder: safetensors, ONNX by torch's dynamo exporter, card, signature, manifest.

Each ONNX file is run on inputs of several shapes; its outputs must equal torch's within ATOL.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from inference_workers.models.folder import write_manifest
from inference_workers.networks.onnx_files import write_graph
from schemas.errors import ModelRefused

ATOL = 1e-4


@dataclass(frozen=True)
class Graph:
    """One ONNX file. cases: inputs to compare on; the first is traced. shapes: per input, dimension number to its name."""

    file: str
    network: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    cases: Sequence[tuple[Tensor, ...]]
    shapes: Sequence[Mapping[int, str]]
    half: bool = False  # large tables are kept in 16 bits and widened when the file is loaded


@dataclass(frozen=True)
class Artifact:
    """The content of a model folder. files: further ones, by name."""

    name: str
    weights: Mapping[str, Tensor]
    graphs: Sequence[Graph]
    config: Mapping[str, Any]
    signature: Mapping[str, Any]
    card: Callable[[float], str]  # is called with the largest difference between ONNX and torch
    files: Mapping[str, bytes] = field(default_factory=dict)


def export(graph: Graph, file: Path) -> float:
    """Write the ONNX file and return the largest difference from torch. Raises ModelRefused if it is greater than ATOL."""
    write_graph(graph.network, file, graph.cases[0], graph.inputs, graph.outputs, graph.shapes, graph.half)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    worst = 0.0
    for case in graph.cases:
        with torch.no_grad():
            answer = graph.network(*case)
        feeds = {name: value.numpy() for name, value in zip(graph.inputs, case, strict=True)}
        expected = answer if isinstance(answer, tuple) else (answer,)
        for actual, wanted in zip(session.run(None, feeds), expected, strict=True):
            worst = max(worst, float(np.abs(actual - wanted.numpy()).max()))
    if worst > ATOL:
        raise ModelRefused(f"{file}: ONNX and torch differ by {worst:.2e}; at most {ATOL} is allowed")
    return worst


def rounded(network: nn.Module) -> nn.Module:
    """The network with every weight rounded to 16 bits, so that the weights that are measured are those that are shipped."""
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.dtype == torch.float32:
                tensor.copy_(tensor.half().float())
    return network


def write(artifact: Artifact, folder: Path, version: str) -> str:
    """Write the folder and return the version's digest. It is written next to the target and then moved, so that no reader sees
    half of it."""
    staging = Path(tempfile.mkdtemp(prefix=f"{artifact.name}-", dir=folder.parent if folder.parent.exists() else None))
    save_file({name: value.contiguous() for name, value in artifact.weights.items()}, staging / "model.safetensors")
    difference = max(export(graph, staging / graph.file) for graph in artifact.graphs)
    for name, content in artifact.files.items():
        (staging / name).write_bytes(content)
    (staging / "config.json").write_text(json.dumps(artifact.config, indent=2, ensure_ascii=False) + "\n")
    (staging / "signature.json").write_text(json.dumps(artifact.signature, indent=2) + "\n")
    (staging / "MODEL_CARD.md").write_text(artifact.card(difference))
    digest = write_manifest(staging, artifact.name, version)
    if folder.exists():
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(staging, folder)
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)
    return digest


def halves(network: nn.Module) -> dict[str, Tensor]:
    """The state to save: 32-bit tensors of a `rounded` network in 16 bits."""
    return {name: value.half() if value.dtype == torch.float32 else value for name, value in network.state_dict().items()}
