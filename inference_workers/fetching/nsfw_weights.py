"""The MobileNetV2 of nsfwjs: TensorFlow.js weights of 8 bits in scripts, as an ONNX graph."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inference_workers.fetching import keras_graph
from inference_workers.fetching.converted import Converted, the_file
from inference_workers.fetching.js_values import exported
from schemas.errors import ModelRefused

SIDE = 224
CLASSES = ("drawing", "hentai", "neutral", "porn", "sexy")  # nsfw_classes.js
PIXELS = {"mode": "RGB", "height": SIDE, "width": SIDE, "rule": "stretch"}


def convert(source: Path, made: Path) -> Converted:
    """Raises ModelRefused if the scripts hold something else than this model."""
    folder = the_file(source, "dist/models/mobilenet_v2/model.min.js").parent
    model = exported((folder / "model.min.js").read_text())
    try:
        layers = model["modelTopology"]["model_config"]["config"]["layers"]
        weights = dequantised(model["weightsManifest"], folder)
    except (KeyError, TypeError) as error:
        raise ModelRefused(f"model.min.js is not a Keras model of TensorFlow.js: {error!r}") from error
    width = keras_graph.write(layers, weights, SIDE, len(CLASSES), made / "model.onnx")
    signature = {
        "inputs": {"pixels": {"dtype": "uint8", "shape": ["n", SIDE, SIDE, 3]}},
        "outputs": {
            "logits": {"dtype": "float32", "shape": ["n", len(CLASSES)]},
            "embedding": {"dtype": "float32", "shape": ["n", width]},
        },
    }
    config = {"task": "vision", "network": "onnx-image", "coverage": list(CLASSES), "pixels": PIXELS}
    return Converted(
        config, signature, ["The graph was rebuilt layer by layer from `model.json`; weights of 8 bits were widened."]
    )


def dequantised(manifest: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Weights by name, float32 in TensorFlow's order of dimensions. Raises ModelRefused if the bytes do not match the manifest."""
    weights: dict[str, npt.NDArray[np.float32]] = {}
    for group in manifest:
        scripts = [(folder / f"{Path(path).name}.min.js").read_text() for path in group["paths"]]
        data = b"".join(base64.b64decode(exported(script), validate=True) for script in scripts)
        at = 0
        for weight in group["weights"]:
            values, at = _one(weight, data, at)
            weights[weight["name"]] = values
        if at != len(data):
            raise ModelRefused(f"the weights have {len(data)} bytes, and the manifest names {at}")
    return weights


def _one(weight: Mapping[str, Any], data: bytes, at: int) -> tuple[npt.NDArray[np.float32], int]:
    how = weight.get("quantization")
    kind = np.dtype(how["dtype"] if how else weight["dtype"])
    end = at + math.prod(weight["shape"]) * kind.itemsize
    if kind not in (np.uint8, np.uint16, np.float32) or end > len(data):
        raise ModelRefused(f"weight {weight['name']} is of kind {kind}, or its bytes are missing")
    values = np.frombuffer(data[at:end], kind.newbyteorder("<")).astype(np.float32)
    if how:
        values = values * np.float32(how["scale"]) + np.float32(how["min"])
    return values.reshape(weight["shape"]), end
