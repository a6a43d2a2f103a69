"""Which backend runs a model: by where it comes from, and whether there is a GPU."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from inference_workers.backends import scorers
from inference_workers.backends.backend import Listening, Network, PictureScorer, TextScorer, Translating
from inference_workers.backends.onnx import OnnxNetwork
from inference_workers.models.folder import ModelFolder
from schemas.errors import ModelRefused


def network(folder: ModelFolder, file: str) -> Network:
    """torch on a GPU where there is one, else ONNX Runtime on the CPU. Raises ModelRefused."""
    if find_spec("torch") is not None and _sees_a_gpu():
        from inference_workers.backends.torch_networks import TorchNetwork, gpu

        device = gpu()
        if device is not None:
            return TorchNetwork(folder, file, device)
    return OnnxNetwork(folder, file)


def _sees_a_gpu() -> bool:
    """Without importing torch, which takes seconds: the driver's device files."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def text_scorer(folder: ModelFolder) -> TextScorer:
    if folder.huggingface:
        return cast(TextScorer, _huggingface(folder).Texts(folder))
    return cast(TextScorer, _ours(folder, {"hashed_linear": scorers.HashedTexts}))


def picture_scorer(folder: ModelFolder) -> PictureScorer:
    if folder.huggingface:
        return cast(PictureScorer, _huggingface(folder).Pictures(folder))
    return cast(PictureScorer, _ours(folder, {"convnet": scorers.ConvPictures}))


def translating(folder: ModelFolder) -> Translating:
    if folder.huggingface:
        return cast(Translating, _huggingface(folder).Translation(folder))
    return cast(Translating, _ours(folder, {"translator": scorers.ShortSentences}))


def listening(folder: ModelFolder) -> Listening:
    if folder.huggingface:
        return cast(Listening, _huggingface(folder).Speech(folder))
    return cast(Listening, _ours(folder, {"listener": scorers.DigitStrings}))


def _huggingface(folder: ModelFolder) -> Any:
    try:
        return import_module("inference_workers.backends.huggingface")
    except ImportError as error:
        raise ModelRefused(f"{folder.name} needs transformers, which is not here: `./millrace setup huggingface`") from error


def _ours(folder: ModelFolder, kinds: dict[str, type]) -> object:
    kind = folder.config.get("network")
    if kind not in kinds:
        raise ModelRefused(f"{folder.path} holds a network of kind {kind!r}; this task takes {', '.join(kinds)}")
    try:
        return kinds[kind](folder, network)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelRefused(f"{folder.path}: its config does not describe a {kind}: {error!r}") from error
