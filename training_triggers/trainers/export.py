"""Writes a trained network as a model folder: safetensors, ONNX by torch's dynamo exporter, card, signature, manifest.

Each ONNX file is run on inputs of several shapes; its outputs must equal torch's within ATOL.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from inference_workers.models.folder import write_manifest
from schemas.errors import ModelRefused

ATOL = 1e-4
OPSET = 20


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
    names = {name for shape in graph.shapes for name in shape.values()}
    dims = {name: torch.export.Dim(name, min=1, max=2**20) for name in sorted(names)}
    dynamic = tuple({at: dims[name] for at, name in shape.items()} for shape in graph.shapes)
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph.network,
            graph.cases[0],
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamo=True,
            dynamic_shapes=dynamic,
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    program.save(str(file))
    without_traces(file)
    if graph.half:
        in_halves(file)
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


def without_traces(file: Path) -> None:
    """Remove the source lines and paths that the exporter writes for each node: they would make the digest depend on the machine
    that trained the model."""
    model = onnx.load(str(file))
    graph = model.graph
    parts: list[Any] = [model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer]
    for function in model.functions:
        parts += [function, *function.node, *function.value_info]
    for part in parts:
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.save(model, str(file))


def in_halves(file: Path) -> None:
    """Store weights in 16 bits, followed by a cast to 32: half the file size, the same arithmetic. Weights that 16 bits cannot
    represent stay."""
    model = onnx.load(str(file))
    casts = []
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < 64:
            continue
        small = values.astype(np.float16)
        if not np.array_equal(small.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(small, f"{name}_half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}_half"], [name], name=f"{name}_cast", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, str(file))


def rounded(network: nn.Module) -> nn.Module:
    """The network with every weight rounded to 16 bits, so that the weights that are measured are those that are shipped."""
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.dtype == torch.float32:
                tensor.copy_(tensor.half().float())
    return network


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the progress that the exporter writes to standard output."""
    with Path(os.devnull).open("w") as sink, contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        yield


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
