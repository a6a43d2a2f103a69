"""Writes a network as an ONNX file by torch's dynamo exporter: the same bytes on every machine, weights in 16 bits where asked.

Uses torch and onnx: only trainers and the conversion of packages import it.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

OPSET = 20


def write_graph(
    network: nn.Module,
    file: Path,
    example: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    shapes: Sequence[Mapping[int, str]],
    half: bool = False,
) -> None:
    """example: inputs to trace. shapes: per input, the number of each dimension that varies, to its name. half: whether large tables
    are kept in 16 bits and widened when the file is loaded."""
    names = {name for shape in shapes for name in shape.values()}
    dims = {name: torch.export.Dim(name, min=1, max=2**20) for name in sorted(names)}
    dynamic = tuple({at: dims[name] for at, name in shape.items()} for shape in shapes)
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            example,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamo=True,
            dynamic_shapes=dynamic,
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    program.save(str(file))
    without_traces(file)
    if half:
        in_halves(file)


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


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the progress that the exporter writes to standard output."""
    with Path(os.devnull).open("w") as sink, contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        yield
