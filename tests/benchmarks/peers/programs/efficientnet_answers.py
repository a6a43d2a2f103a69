"""The logits of the original EfficientNet-Lite0, by the code and the weights of its own packages.

pixels.npy: uint8 (n, 224, 224, 3). Writes logits.npy beside it: float32 (n, 1000)."""

import sys
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet

folder, weights = Path(sys.argv[1]), sys.argv[2]
network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
network.eval()
pixels = (torch.from_numpy(np.load(folder / "pixels.npy")).float() - 127.0) / 128.0
with torch.inference_mode():
    np.save(folder / "logits.npy", network(pixels.permute(0, 3, 1, 2)).numpy())
