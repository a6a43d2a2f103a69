"""torch, for a GPU: the same networks, from the safetensors of the same folder. On a CPU, ONNX Runtime needs less."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import nn

from inference_workers.backends.backend import Arrays
from inference_workers.models.folder import ModelFolder
from inference_workers.networks import convnet, efficientnet_lite, hashed_linear, listener, sentence_encoder, translator
from schemas.errors import ModelRefused

# With TF32 convolutions an H100 differs from the CPU by 2e-3; without, by less than 2e-4, so that decisions are those of ONNX Runtime.
torch.backends.cudnn.allow_tf32 = False

Config = Mapping[str, Any]


def _hashed_linear(config: Config) -> nn.Module:
    return hashed_linear.HashedLinear(2 ** config["word_bits"], 2 ** config["char_bits"], len(config["coverage"]))


def _hashed_and_encoded(config: Config) -> nn.Module:
    shape, classes = sentence_encoder.Shape(**config["encoder"]), len(config["coverage"])
    hashed = hashed_linear.HashedLinear(2 ** config["word_bits"], 2 ** config["char_bits"], classes)
    return sentence_encoder.HashedAndEncoded(hashed, sentence_encoder.SentenceEncoder(shape), shape.width, classes)


def _convnet(config: Config) -> nn.Module:
    channels = 1 if config["pixels"]["mode"] == "L" else 3
    return convnet.ConvNet(channels, len(config["coverage"]), tuple(config["widths"]))


def _efficientnet_lite(config: Config) -> nn.Module:
    return efficientnet_lite.EfficientNetLite(float(config["pixels"]["mean"]), float(config["pixels"]["deviation"]))


def _listener(config: Config) -> nn.Module:
    from inference_workers.networks.speech import MELS

    return listener.Listener(MELS, len(config["vocabulary"]))


def _translator(config: Config) -> nn.Module:
    return translator.Translator(translator.Shape(**config["shape"]))


BUILD: Mapping[str, Callable[[Config], nn.Module]] = {
    "hashed_linear": _hashed_linear,
    "hashed_and_encoded": _hashed_and_encoded,
    "convnet": _convnet,
    "efficientnet_lite": _efficientnet_lite,
    "listener": _listener,
    "translator": _translator,
}
PART: Mapping[str, Callable[[Any], nn.Module]] = {"encoder.onnx": translator.Encode, "decoder.onnx": translator.Step}


class TorchNetwork:
    """The network of an ONNX graph in the folder, `file`, with the same inputs and outputs. Raises ModelRefused."""

    def __init__(self, folder: ModelFolder, file: str = "model.onnx", device: str = "cpu") -> None:
        name = folder.config["network"]
        if name not in BUILD:
            raise ModelRefused(f"there is no network {name} in torch; its version at {folder.path} runs on ONNX Runtime")
        network = BUILD[name](folder.config)
        state = load_file(str(folder.path / "model.safetensors"))
        expected = network.state_dict()
        try:
            network.load_state_dict({name: value.to(expected[name].dtype) for name, value in state.items()})
        except (KeyError, RuntimeError) as error:
            raise ModelRefused(f"{folder.path}/model.safetensors does not fit its network: {error}") from error
        self._device = torch.device(device)
        self._network = (PART[file](network) if file in PART else network).eval().to(self._device)
        graph = folder.signature if file == "model.onnx" else folder.signature[file]
        self._inputs, self._outputs = tuple(graph["inputs"]), tuple(graph["outputs"])

    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Dtype and shape of each as in the version's signature."""
        tensors = [torch.from_numpy(np.ascontiguousarray(inputs[name])).to(self._device) for name in self._inputs]
        with torch.inference_mode():
            answer = self._network(*tensors)
        answers = answer if isinstance(answer, tuple) else (answer,)
        # A version older than embeddings lists the logits only, though its network returns both.
        return {name: value.cpu().numpy() for name, value in zip(self._outputs, answers[: len(self._outputs)], strict=True)}

    def close(self) -> None:
        return


def gpu() -> str | None:
    """The device to use; None if there is no GPU."""
    return "cuda" if torch.cuda.is_available() else None
