"""Chooses the backend of a model: by its source, and by whether there is a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from inference_workers.backends import ocr, scorers
from inference_workers.backends.backend import (
    ImageClassifier,
    Network,
    OcrReader,
    TableModel,
    TextClassifier,
    TextEncoder,
    TokenClassifier,
    Transcriber,
    Translator,
)
from inference_workers.backends.onnx import OnnxNetwork
from inference_workers.backends.tables import OnnxTable
from inference_workers.models.folder import ModelFolder
from schemas.errors import ModelRefused

IMAGE_NETWORKS = ("convnet", "efficientnet_lite", "onnx-image")  # the last has no form in torch: ONNX Runtime runs it everywhere

TEXT_NETWORKS: dict[str, type] = {
    "hashed_linear": scorers.HashedTextClassifier,
    "hashed_and_encoded": scorers.EncodedTextClassifier,
}


def network(folder: ModelFolder, file: str) -> Network:
    """torch if there is a GPU, otherwise ONNX Runtime on the CPU. Raises ModelRefused."""
    if find_spec("torch") is not None and _sees_a_gpu():
        from inference_workers.backends.torch_networks import BUILD, TorchNetwork, gpu

        device = gpu()
        if device is not None and folder.config.get("network") in BUILD:
            return TorchNetwork(folder, file, device)
    return OnnxNetwork(folder, file)


def _sees_a_gpu() -> bool:
    """Looks for the driver's device files, as importing torch takes seconds."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def text_classifier(folder: ModelFolder) -> TextClassifier:
    """Raises ModelRefused."""
    if folder.huggingface:
        return cast(TextClassifier, _huggingface(folder).HuggingFaceTextClassifier(folder))
    return cast(TextClassifier, _trained_here(folder, TEXT_NETWORKS))


def image_classifier(folder: ModelFolder) -> ImageClassifier:
    """Raises ModelRefused."""
    if folder.huggingface:
        return cast(ImageClassifier, _huggingface(folder).HuggingFaceImageClassifier(folder))
    return cast(ImageClassifier, _trained_here(folder, dict.fromkeys(IMAGE_NETWORKS, scorers.ConvImageClassifier)))


def translator(folder: ModelFolder) -> Translator:
    """Raises ModelRefused."""
    if folder.huggingface:
        return cast(Translator, _huggingface(folder).HuggingFaceTranslator(folder))
    return cast(Translator, _trained_here(folder, {"translator": scorers.SentenceTranslator}))


def transcriber(folder: ModelFolder) -> Transcriber:
    """Raises ModelRefused."""
    if folder.huggingface:
        return cast(Transcriber, _huggingface(folder).HuggingFaceTranscriber(folder))
    return cast(Transcriber, _trained_here(folder, {"listener": scorers.DigitTranscriber}))


def token_classifier(folder: ModelFolder) -> TokenClassifier:
    """Raises ModelRefused."""
    if folder.huggingface:
        return cast(TokenClassifier, _huggingface(folder).HuggingFaceTokenClassifier(folder))
    return cast(TokenClassifier, _trained_here(folder, {}))


def text_encoder(folder: ModelFolder, pooling: str | None = None, normalise: bool | None = None) -> TextEncoder:
    """pooling, normalise: instead of what the model says. Raises ModelRefused."""
    if folder.huggingface:
        return cast(TextEncoder, _huggingface(folder).HuggingFaceTextEncoder(folder, pooling, normalise))
    return cast(TextEncoder, _trained_here(folder, {}))


def ocr_reader(folder: ModelFolder) -> OcrReader:
    """Raises ModelRefused."""
    return cast(OcrReader, _trained_here(folder, {"pp-ocr": ocr.PaddleReader}))


def table_model(folder: ModelFolder, columns: Sequence[str] = (), labels: Sequence[str] = ()) -> TableModel:
    """Raises ModelRefused."""
    if folder.huggingface or folder.config.get("network") != "onnx-table":
        raise ModelRefused(f"{folder.path} is not a model of tables: an ONNX file, as scikit-learn's exporter writes it")
    return OnnxTable(folder, columns, labels)


def _huggingface(folder: ModelFolder) -> Any:
    try:
        return import_module("inference_workers.backends.huggingface")
    except ImportError as error:
        raise ModelRefused(f"{folder.name} needs transformers, which is not installed: `./millrace setup huggingface`") from error


def _trained_here(folder: ModelFolder, kinds: dict[str, type]) -> object:
    kind = folder.config.get("network")
    if kind not in kinds:
        supported = ", ".join([*kinds, "models in the Hugging Face layout"])
        raise ModelRefused(f"{folder.path} has a network of kind {kind!r}; this task supports {supported}")
    try:
        return kinds[kind](folder, network)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelRefused(f"{folder.path}: its config does not describe a {kind}: {error!r}") from error
