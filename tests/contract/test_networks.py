"""What runs a network: ONNX Runtime and torch give the same answers from the same folder, for every model that is shipped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from inference_workers.backends.onnx import OnnxNetwork
from inference_workers.backends.torch_networks import TorchNetwork
from inference_workers.networks.folder import SHIPPED, ModelFolder, open_folder
from schemas.errors import ModelRefused

FOLDERS = sorted(folder.name for folder in SHIPPED.iterdir() if folder.is_dir())
NUMBERS = {"n": 5, "length": 7, "width": 9, "frames": 40}


def graphs(folder: ModelFolder) -> dict[str, Any]:
    """Signature of each ONNX file."""
    return {"model.onnx": folder.signature} if "inputs" in folder.signature else folder.signature


def inputs_of(signature: dict[str, Any]) -> dict[str, Any]:
    random = np.random.default_rng(7)
    made: dict[str, Any] = {}
    for name, about in signature["inputs"].items():
        shape = [NUMBERS.get(size, size) for size in about["shape"]]
        if name == "lengths":
            made[name] = np.full(shape, NUMBERS["frames"], np.int64)
        elif about["dtype"] == "float32":
            made[name] = random.random(shape, np.float32)
        else:
            made[name] = random.integers(4, 200, shape).astype(about["dtype"])
    return made


@pytest.mark.parametrize("name", FOLDERS)
def test_both_backends_agree_and_give_what_the_signature_says(name: str) -> None:
    folder = open_folder(SHIPPED / name)
    for file, signature in graphs(folder).items():
        inputs = inputs_of(signature)
        onnx, torch = OnnxNetwork(folder, file).run(inputs), TorchNetwork(folder, file).run(inputs)
        assert list(onnx) == list(torch) == list(signature["outputs"])
        for output in onnx:
            np.testing.assert_allclose(onnx[output], torch[output], atol=2e-4)
            assert str(onnx[output].dtype) == signature["outputs"][output]["dtype"]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_is_small_enough_to_ship_and_says_what_it_is(name: str) -> None:
    folder = open_folder(SHIPPED / name)
    sizes = [file.stat().st_size for file in folder.path.iterdir()]
    assert max(sizes) <= 8_000_000
    card = (folder.path / "MODEL_CARD.md").read_text()
    for words in ("licence", "Measured", "Made again"):
        assert words in card


def test_weights_of_another_network_are_refused() -> None:
    folder = open_folder(SHIPPED / "vision-digits")
    wider = ModelFolder(
        folder.path, folder.name, folder.version, folder.digest, {**folder.config, "widths": [8, 8]}, folder.signature
    )
    with pytest.raises(ModelRefused, match="does not fit its network"):
        TorchNetwork(wider)
