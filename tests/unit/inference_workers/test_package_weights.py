"""Weights of others to ours: values in scripts, 8-bit numbers, and Keras layers as an ONNX graph. No network."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference_workers.backends.onnx import OnnxNetwork
from inference_workers.fetching import keras_graph
from inference_workers.fetching.js_values import exported
from inference_workers.fetching.nsfw_weights import dequantised
from inference_workers.models.folder import ModelFolder
from schemas.errors import ModelRefused

SIDE = 6


def script(value: str) -> str:
    """As browserify and a minifier write it."""
    return f'!function(e){{if("object"==typeof exports)module.exports=e();}}({{1:[function(e,a,n){{a.exports={value}}},{{}}]}},{{}},[1]);'


def test_the_exported_value_of_a_script_is_read() -> None:
    found = exported(script('{a:[.5,-0,19e-4,-.25,12],b_1:!1,c:!0,$d:null,"e f":"x:{y}\\"",g:{},h:[]}'))
    assert found == {"a": [0.5, 0, 0.0019, -0.25, 12], "b_1": False, "c": True, "$d": None, "e f": 'x:{y}"', "g": {}, "h": []}
    assert exported(script('"YWJj"')) == "YWJj"


@pytest.mark.parametrize(
    "value",
    ["{a:f()}", "{a:b}", "{a:1+1}", "[1,2", "{a:new X}", "function(){}", "{a:!2}", '{"a":`x`}', "{a:1,,b:2}", "{a:Infinity}"],
)
def test_a_script_that_would_have_to_run_is_refused(value: str) -> None:
    with pytest.raises(ModelRefused, match="script of the package"):
        exported(script(value))


def shard(folder: Path, data: bytes) -> None:
    (folder / "group1.min.js").write_text(script(f'"{base64.b64encode(data).decode()}"'))


def manifest(*weights: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"paths": ["group1"], "weights": list(weights)}]


BYTE = {"name": "w", "shape": [2, 2], "dtype": "float32", "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1.0}}
FLOAT = {"name": "b", "shape": [1], "dtype": "float32"}


def test_numbers_of_eight_bits_are_widened(tmp_path: Path) -> None:
    shard(tmp_path, bytes([0, 2, 4, 255]) + np.float32(7.5).tobytes())
    found = dequantised(manifest(BYTE, FLOAT), tmp_path)
    assert {name: values.tolist() for name, values in found.items()} == {"w": [[-1.0, 0.0], [1.0, 126.5]], "b": [7.5]}


@pytest.mark.parametrize(("data", "words"), [(bytes(3), "missing"), (bytes(9), "the manifest names 4"), (bytes(7), "names 4")])
def test_bytes_that_do_not_match_the_manifest_are_refused(tmp_path: Path, data: bytes, words: str) -> None:
    shard(tmp_path, data)
    with pytest.raises(ModelRefused, match=words):
        dequantised(manifest(BYTE), tmp_path)


def layer(kind: str, name: str, before: str, **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "name": name, "config": config, "inbound_nodes": [[[before, 0, 0, {}]]] if before else []}


CONVOLUTION = {"activation": "linear", "dilation_rate": [1, 1], "data_format": "channels_last", "padding": "valid"}
SMALL = [
    layer("InputLayer", "in", ""),
    layer("ZeroPadding2D", "pad", "in", padding=[[0, 1], [0, 1]]),
    layer("Conv2D", "conv", "pad", kernel_size=[3, 3], strides=[2, 2], use_bias=False, **CONVOLUTION),
    layer("BatchNormalization", "norm", "conv", epsilon=0.001),
    layer("ReLU", "relu", "norm", max_value=6, negative_slope=0, threshold=0),
    layer("DepthwiseConv2D", "deep", "relu", kernel_size=[3, 3], strides=[1, 1], use_bias=False, depth_multiplier=1)
    | {
        "config": {
            **CONVOLUTION,
            "padding": "same",
            "kernel_size": [3, 3],
            "strides": [1, 1],
            "use_bias": False,
            "depth_multiplier": 1,
        }
    },
    layer("Add", "sum", "relu") | {"inbound_nodes": [[["relu", 0, 0, {}], ["deep", 0, 0, {}]]]},
    layer("AveragePooling2D", "mean", "sum", pool_size=[3, 3], strides=[3, 3], padding="valid"),
    layer("Flatten", "flat", "mean"),
    layer("Dropout", "drop", "flat"),
    layer("Dense", "last", "drop", activation="softmax", use_bias=True),
]


def weights(seed: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    shapes = {"conv/kernel": (3, 3, 3, 4), "deep/depthwise_kernel": (3, 3, 4, 1), "last/kernel": (4, 2), "last/bias": (2,)}
    shapes |= {f"norm/{part}": (4,) for part in ("gamma", "beta", "moving_mean", "moving_variance")}
    return {
        name: np.abs(rng.normal(size=shape)).astype(np.float32) - (0.3 if "kernel" in name else 0)
        for name, shape in shapes.items()
    }


def by_hand(pixels: Any, w: dict[str, Any]) -> tuple[Any, Any]:
    """The same network for one picture, by loops, in TensorFlow's order of dimensions."""
    x = np.pad(pixels.astype(np.float64) / 255, ((0, 1), (0, 1), (0, 0)))
    y = np.array(
        [[np.tensordot(x[2 * i : 2 * i + 3, 2 * j : 2 * j + 3], w["conv/kernel"], 3) for j in range(3)] for i in range(3)]
    )
    y = (y - w["norm/moving_mean"]) / np.sqrt(w["norm/moving_variance"] + 0.001) * w["norm/gamma"] + w["norm/beta"]
    y = np.clip(y, 0, 6)
    padded = np.pad(y, ((1, 1), (1, 1), (0, 0)))
    kernel = w["deep/depthwise_kernel"][..., 0]
    z = np.array([[(padded[i : i + 3, j : j + 3] * kernel).sum((0, 1)) for j in range(3)] for i in range(3)])
    embedding = (y + z).mean((0, 1))
    return embedding @ w["last/kernel"] + w["last/bias"], embedding


def test_layers_become_the_same_network_in_onnx(tmp_path: Path) -> None:
    assert keras_graph.write(SMALL, weights(), SIDE, 2, tmp_path / "model.onnx") == 4
    pixels = np.random.default_rng(2).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    out = OnnxNetwork(ModelFolder(tmp_path, "m", "1", "", {}, {})).run({"pixels": pixels})
    for i in range(3):
        logits, embedding = by_hand(pixels[i], weights())
        np.testing.assert_allclose(out["logits"][i], logits, rtol=1e-4)
        np.testing.assert_allclose(out["embedding"][i], embedding, rtol=1e-4)


def changed(at: int, **config: Any) -> list[dict[str, Any]]:
    return [{**one, "config": {**one["config"], **config}} if i == at else one for i, one in enumerate(SMALL)]


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([*SMALL[:2], layer("LSTM", "lstm", "pad")], "lstm is of kind LSTM; there are InputLayer"),
        (changed(2, activation="relu"), "conv has an activation"),
        (changed(5, depth_multiplier=2), "deep has a depth multiplier"),
        (changed(4, negative_slope=0.1), "leaky ReLU"),
        (changed(10, activation="tanh"), "last ends in tanh"),
        (SMALL[:-1], "the last layer is drop"),
    ],
)
def test_a_layer_that_is_not_converted_is_refused_by_its_name(tmp_path: Path, layers: list[Any], words: str) -> None:
    with pytest.raises(ModelRefused, match=words):
        keras_graph.write(layers, weights(), SIDE, 2, tmp_path / "model.onnx")


def test_a_missing_weight_is_refused_by_its_name(tmp_path: Path) -> None:
    few = weights()
    del few["norm/beta"]
    with pytest.raises(ModelRefused, match="no weight norm/beta"):
        keras_graph.write(SMALL, few, SIDE, 2, tmp_path / "model.onnx")
