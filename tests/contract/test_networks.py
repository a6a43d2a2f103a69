"""What runs a network: ONNX Runtime and torch give the same answers from the same folder, for every model that is shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from inference_workers.backends.onnx import OnnxNetwork
from inference_workers.backends.scorers import ConvImageClassifier
from inference_workers.backends.torch_networks import TorchNetwork
from inference_workers.models.folder import SHIPPED, ModelFolder, open_folder
from inference_workers.networks.embedding import WIDTH, reduced
from schemas.errors import ModelRefused

FOLDERS = sorted(folder.name for folder in SHIPPED.iterdir() if folder.is_dir())
NUMBERS = {"n": 5, "length": 7, "width": 9, "frames": 40, "candidates": 6}


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
            made[name] = random.integers(4, about.get("below", 200), shape).astype(about["dtype"])
    return made


DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", FOLDERS)
def test_both_backends_agree_and_give_what_the_signature_says(name: str, device: str) -> None:
    folder = open_folder(SHIPPED / name)
    for file, signature in graphs(folder).items():
        inputs = inputs_of(signature)
        by_onnx = OnnxNetwork(folder, file).run(inputs)
        assert list(by_onnx) == list(signature["outputs"])
        if folder.config["network"] == "two-tower":  # served by ONNX Runtime alone; its trainer compares it with torch
            with pytest.raises(ModelRefused, match="no network two-tower in torch"):
                TorchNetwork(folder, file, device)
            continue
        by_torch = TorchNetwork(folder, file, device).run(inputs)
        assert list(by_torch) == list(by_onnx)
        for output in by_onnx:
            np.testing.assert_allclose(by_onnx[output], by_torch[output], atol=2e-4)
            assert str(by_torch[output].dtype) == signature["outputs"][output]["dtype"]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_is_small_enough_to_ship_and_says_what_it_is(name: str) -> None:
    folder = open_folder(SHIPPED / name)
    sizes = [file.stat().st_size for file in folder.path.iterdir()]
    assert max(sizes) <= 8_000_000
    card = (folder.path / "MODEL_CARD.md").read_text()
    for words in ("licence", "Measured", "Made again"):
        assert words in card


@pytest.mark.parametrize("network", [OnnxNetwork, TorchNetwork])
def test_a_version_of_before_embeddings_answers_without_one(network: Any, tmp_path: Path) -> None:
    folder = open_folder(SHIPPED / "vision-digits")
    graph = onnx.load(str(folder.path / "model.onnx"))
    del graph.graph.output[1]
    onnx.save(graph, str(tmp_path / "model.onnx"))
    (tmp_path / "model.safetensors").write_bytes((folder.path / "model.safetensors").read_bytes())
    signature = {**folder.signature, "outputs": {"logits": folder.signature["outputs"]["logits"]}}
    before = ModelFolder(tmp_path, folder.name, "0", "", folder.config, signature)
    blank = np.zeros((28, 28, 1), np.uint8)
    old = ConvImageClassifier(before, lambda one, file: network(one, file)).classify([blank])
    new = ConvImageClassifier(folder, lambda one, file: network(one, file)).classify([blank])
    assert old.embedding is None
    assert new.embedding is not None
    np.testing.assert_array_equal(old.logits, new.logits)


def test_a_reduced_embedding_keeps_distances_and_is_the_same_for_ever() -> None:
    random = np.random.default_rng(2)
    wide = random.normal(size=(200, 192)).astype(np.float32)
    narrow = reduced(wide)
    assert (narrow.shape, narrow.dtype) == ((200, WIDTH), np.dtype("<f2"))

    def squares(points: Any) -> Any:
        return ((points[:, None].astype(float) - points[None].astype(float)) ** 2).sum(axis=2)[np.triu_indices(200, 1)]

    assert np.median(squares(narrow) / squares(wide)) == pytest.approx(1.0, abs=0.1)
    first = (reduced(np.eye(1, 192, dtype=np.float32))[0] * 4).tolist()
    assert first == [1, 1, -1, 1, -1, -1, 1, 1, 1, -1, -1, -1, 1, 1, -1, -1], "baselines that are kept were made with it"
    assert reduced(wide[:, :5]).tolist() == wide[:, :5].astype("<f2").tolist(), "what is narrow stays as it is"
    assert np.isfinite(reduced(np.full((1, 3), 1e9, np.float32))).all()


def test_weights_of_another_network_are_refused() -> None:
    folder = open_folder(SHIPPED / "vision-digits")
    wider = ModelFolder(
        folder.path, folder.name, folder.version, folder.digest, {**folder.config, "widths": [8, 8]}, folder.signature
    )
    with pytest.raises(ModelRefused, match="does not fit its network"):
        TorchNetwork(wider)
