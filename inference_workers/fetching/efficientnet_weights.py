"""EfficientNet-Lite0 out of its PyTorch state dict: safetensors and ONNX, compared with each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torchvision.models import EfficientNet_B0_Weights

from inference_workers.backends.onnx import OnnxNetwork
from inference_workers.fetching.converted import Converted, the_file
from inference_workers.models.folder import ModelFolder
from inference_workers.networks.efficientnet_lite import EfficientNetLite, signature
from inference_workers.networks.onnx_files import write_graph
from schemas.errors import ModelRefused

SIDE = 224
MEAN, DEVIATION = 127.0, 128.0
# As the original TensorFlow code: the middle 224 of 256 parts of the shorter side, bicubic; each pixel less 127, divided by 128.
PIXELS = {"mode": "RGB", "height": SIDE, "width": SIDE, "rule": "crop", "keep": 0.875, "smooth": True}
ATOL = 1e-3
LABELS = "The classes' names are those that torchvision (BSD-3-Clause) has with its own ImageNet weights."


def convert(source: Path, made: Path) -> Converted:
    """Raises ModelRefused if the weights do not fit the network, or ONNX Runtime computes something else than torch."""
    torch.set_num_threads(1)
    # weights_only: the file is a pickle, of which nothing but tensors is read.
    state = torch.load(the_file(source, "*.pth"), map_location="cpu", weights_only=True)
    network = EfficientNetLite(MEAN, DEVIATION)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ModelRefused(f"the weights do not fit EfficientNet-Lite0: {error}") from error
    network.eval()
    labels = list(EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"])
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, made / "model.safetensors")
    pixels = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8))
    write_graph(network, made / "model.onnx", (pixels,), ("pixels",), ("logits", "embedding"), ({0: "n"},))
    pixels_config = {**PIXELS, "mean": MEAN, "deviation": DEVIATION}
    config = {"task": "vision", "network": "efficientnet_lite", "coverage": labels, "pixels": pixels_config}
    worst = _difference(network, pixels, made)
    return Converted(
        config, signature(SIDE), [LABELS, f"Largest difference of an output between ONNX Runtime and torch: {worst:.1e}."]
    )


def _difference(network: EfficientNetLite, pixels: torch.Tensor, made: Path) -> float:
    with torch.inference_mode():
        logits, embedding = network(pixels)
    out = OnnxNetwork(ModelFolder(made, made.name, "", "", {}, {})).run({"pixels": pixels.numpy()})
    worst = max(float(np.abs(out["logits"] - logits.numpy()).max()), float(np.abs(out["embedding"] - embedding.numpy()).max()))
    if worst > ATOL:
        raise ModelRefused(f"ONNX Runtime and torch differ by {worst:.1e}; at most {ATOL} is allowed")
    return worst
