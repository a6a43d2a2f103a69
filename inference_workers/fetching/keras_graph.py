"""A Keras model of convolutions, as TensorFlow.js stores it, as an ONNX graph: layer by layer, no TensorFlow.

The graph takes pixels and returns the input of the last layer as `embedding`, and that layer's result before softmax as `logits`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from schemas.errors import ModelRefused

OPSET = 17
Arrays = Mapping[str, npt.NDArray[np.float32]]
Layer = Mapping[str, Any]


class _Graph:
    """An ONNX graph that grows by layers. Pictures are (n, channels, height, width) inside."""

    def __init__(self, weights: Arrays) -> None:
        self._weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.output: dict[str, str] = {}  # of each layer

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, name: str, values: npt.NDArray[Any]) -> str:
        """values: of any shape; kept with their dtype."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def weight(self, layer: Layer, part: str, *order: int) -> str:
        """A weight of a layer, its dimensions in another order if one is given."""
        name = f"{layer['name']}/{part}"
        if name not in self._weights:
            raise ModelRefused(f"the package has no weight {name}")
        values = self._weights[name]
        return self.constant(name, values.transpose(order) if order else values)

    def add(self, layer: Layer) -> None:
        kind, name = layer["class_name"], layer["name"]
        if kind not in LAYERS:
            raise ModelRefused(f"layer {name} is of kind {kind}; there are {', '.join(LAYERS)}")
        before = [self.output[place[0]] for place in (layer["inbound_nodes"] or [[]])[0]]
        self.output[name] = LAYERS[kind](self, layer, before)


Add = Callable[[_Graph, Layer, list[str]], str]  # the names of its inputs to that of its output


def _pixels(graph: _Graph, layer: Layer, before: list[str]) -> str:
    del layer, before
    as_float = graph.node("Cast", ["pixels"], "pixels_float", to=TensorProto.FLOAT)
    scaled = graph.node("Div", [as_float, graph.constant("full", np.array(255.0, np.float32))], "pixels_scaled")
    return graph.node("Transpose", [scaled], "pixels_first", perm=[0, 3, 1, 2])


def _padding(graph: _Graph, layer: Layer, before: list[str]) -> str:
    (top, bottom), (left, right) = layer["config"]["padding"]
    pads = graph.constant(f"{layer['name']}/pads", np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
    return graph.node("Pad", [*before, pads], layer["name"])


def _window(config: Layer, size: str) -> dict[str, Any]:
    """kernel_shape, strides and padding of a convolution or a pooling."""
    return {
        "kernel_shape": list(map(int, config[size])),
        "strides": list(map(int, config["strides"])),
        "auto_pad": "SAME_UPPER" if config["padding"] == "same" else "VALID",
    }


def _convolution(graph: _Graph, layer: Layer, before: list[str]) -> str:
    config = layer["config"]
    _plain(layer, config)
    inputs = [*before, graph.weight(layer, "kernel", 3, 2, 0, 1)]
    if config["use_bias"]:
        inputs.append(graph.weight(layer, "bias"))
    return graph.node("Conv", inputs, layer["name"], **_window(config, "kernel_size"))


def _depthwise(graph: _Graph, layer: Layer, before: list[str]) -> str:
    config = layer["config"]
    _plain(layer, config)
    if config["depth_multiplier"] != 1 or config["use_bias"]:
        raise ModelRefused(f"layer {layer['name']} has a depth multiplier or a bias, which is not converted")
    kernel = graph.weight(layer, "depthwise_kernel", 2, 3, 0, 1)
    channels = graph.constants[-1].dims[0]
    return graph.node("Conv", [*before, kernel], layer["name"], group=channels, **_window(config, "kernel_size"))


def _plain(layer: Layer, config: Layer) -> None:
    if config["activation"] != "linear" or list(config["dilation_rate"]) != [1, 1] or config["data_format"] != "channels_last":
        raise ModelRefused(f"layer {layer['name']} has an activation, a dilation or an order that is not converted")


def _normalisation(graph: _Graph, layer: Layer, before: list[str]) -> str:
    parts = [graph.weight(layer, part) for part in ("gamma", "beta", "moving_mean", "moving_variance")]
    return graph.node("BatchNormalization", [*before, *parts], layer["name"], epsilon=float(layer["config"]["epsilon"]))


def _relu(graph: _Graph, layer: Layer, before: list[str]) -> str:
    name, config = layer["name"], layer["config"]
    if config["negative_slope"] or config["threshold"]:
        raise ModelRefused(f"layer {name} is a leaky ReLU, which is not converted")
    low = graph.constant(f"{name}/low", np.array(0.0, np.float32))
    most = math.inf if config["max_value"] is None else float(config["max_value"])
    high = graph.constant(f"{name}/high", np.array(most, np.float32))
    return graph.node("Clip", [*before, low, high], name)


def _sum(graph: _Graph, layer: Layer, before: list[str]) -> str:
    return graph.node("Add", before, layer["name"])


def _mean(graph: _Graph, layer: Layer, before: list[str]) -> str:
    return graph.node("AveragePool", before, layer["name"], **_window(layer["config"], "pool_size"))


def _flat(graph: _Graph, layer: Layer, before: list[str]) -> str:
    return graph.node("Flatten", before, layer["name"])


def _same(graph: _Graph, layer: Layer, before: list[str]) -> str:
    del graph, layer
    return before[0]


def _dense(graph: _Graph, layer: Layer, before: list[str]) -> str:
    """The softmax of the last layer is left out: who asks for probabilities takes it of the logits."""
    name, activation = layer["name"], layer["config"]["activation"]
    inputs = [*before, graph.weight(layer, "kernel")]
    if layer["config"]["use_bias"]:
        inputs.append(graph.weight(layer, "bias"))
    match activation:
        case "linear":
            return graph.node("Gemm", inputs, name)
        case "relu":
            return graph.node("Relu", [graph.node("Gemm", inputs, f"{name}/sum")], name)
        case "softmax":
            graph.node("Identity", before, "embedding")
            return graph.node("Gemm", inputs, "logits")
    raise ModelRefused(f"layer {name} ends in {activation}, which is not converted")


LAYERS: Mapping[str, Add] = {
    "InputLayer": _pixels,
    "ZeroPadding2D": _padding,
    "Conv2D": _convolution,
    "DepthwiseConv2D": _depthwise,
    "BatchNormalization": _normalisation,
    "ReLU": _relu,
    "Add": _sum,
    "AveragePooling2D": _mean,
    "Flatten": _flat,
    "Dropout": _same,
    "Dense": _dense,
}


def write(layers: Sequence[Layer], weights: Arrays, side: int, classes: int, file: Path) -> int:
    """Write the ONNX file; returns the width of the embedding. weights: float32, by `layer/part`. Raises ModelRefused for a layer that
    is not known."""
    graph = _Graph(weights)
    for layer in layers:
        graph.add(layer)
    if graph.output[layers[-1]["name"]] != "logits":
        raise ModelRefused(f"the last layer is {layers[-1]['name']}; a dense layer with softmax is expected")
    width = int(weights[f"{layers[-1]['name']}/kernel"].shape[0])
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", side, side, 3])
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes]),
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", width]),
    ]
    made = helper.make_graph(graph.nodes, "network", [pixels], outputs, graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(file))
    return width
