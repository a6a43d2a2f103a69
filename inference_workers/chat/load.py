"""A model folder as an engine and its chat template."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from inference_workers.chat.calibration import TEXT, Recorder, smoothed
from inference_workers.chat.chat_model import ChatModel, ends_of
from inference_workers.chat.constraint import Constraints
from inference_workers.chat.continuous import ContinuousEngine, Network
from inference_workers.chat.gpu.cuda_graphs import GraphedLlama
from inference_workers.chat.gpu.torch_operations import TorchOperations
from inference_workers.chat.large_pages import use_large_pages
from inference_workers.chat.linears import Dense, Half, Int8, Linear
from inference_workers.chat.llama import Llama, LlamaConfig, StepRows
from inference_workers.chat.operations import CpuOperations
from inference_workers.chat.settings import EngineSettings, Weights
from inference_workers.chat.template import JinjaChatTemplate
from inference_workers.models.folder import read_fields
from schemas.errors import ModelRefused
from streams.clock import Clock


def load(folder: Path, settings: EngineSettings, clock: Clock) -> ChatModel:
    """Read a checkpoint in the Hugging Face layout. Raises ModelRefused if its architecture is not known, or a file is damaged."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(settings.torch_threads)
    raw = read_fields(folder / "config.json")
    config = LlamaConfig.read(raw)
    template = JinjaChatTemplate(folder, settings.max_prompt_characters)
    ends = ends_of(folder, raw, template.end)
    network = _network(config, _weights(folder, device), settings, device, template)
    if device.type == "cpu":
        use_large_pages()
    engine = ContinuousEngine(
        network,
        settings,
        clock,
        context_tokens=config.context_tokens,
        ends=ends,
        decode=template.text,
        constraints=lambda: Constraints(template.tokenizer, config.vocabulary, min(ends)),
    )
    positions = settings.kv_tokens // settings.block_tokens * settings.block_tokens
    return ChatModel(engine, template, min(config.context_tokens, positions), config.vocabulary)


def _network(
    config: LlamaConfig,
    weights: Mapping[str, torch.Tensor],
    settings: EngineSettings,
    device: torch.device,
    template: JinjaChatTemplate,
) -> Network:
    kind = settings.weights
    if kind is Weights.AUTO:
        kind = Weights.BFLOAT16 if device.type == "cuda" else Weights.INT8
    if device.type == "cuda" and kind in (Weights.INT8, Weights.FLOAT16):
        raise ModelRefused(f"weights {kind.value} are for a CPU; a GPU takes bfloat16 or float32")
    dtype = torch.bfloat16 if kind is Weights.BFLOAT16 else torch.float32
    blocks, size = settings.kv_tokens // settings.block_tokens, settings.block_tokens
    makers: dict[Weights, Callable[[], Callable[[torch.Tensor], Linear]]] = {
        Weights.FLOAT32: lambda: lambda weight: Dense(weight.float()),
        Weights.BFLOAT16: lambda: lambda weight: Dense(weight.bfloat16()),
        Weights.FLOAT16: lambda: Half,
        Weights.INT8: lambda: smoothed(Int8, _maxima(config, weights, template)),
    }
    make = makers[kind]()
    if device.type == "cpu" and dtype is torch.float32:
        return Llama(config, weights, make, CpuOperations(config, blocks, size, settings.torch_threads), dtype)
    kernel = settings.attention_kernel and device.type == "cuda"
    operations = TorchOperations(config, blocks, size, dtype, device, kernel)
    network = Llama(config, weights, make, operations, dtype)
    return GraphedLlama(network, operations, device) if device.type == "cuda" else network


def _maxima(config: LlamaConfig, weights: Mapping[str, torch.Tensor], template: JinjaChatTemplate) -> list[torch.Tensor]:
    """The largest inputs of every linear, over a text."""
    recorder = Recorder()
    tokens = np.array(template.plain(TEXT)[: config.context_tokens], np.int64)
    network = Llama(config, weights, recorder.linear, CpuOperations(config, len(tokens) // 16 + 1, 16), torch.float32)
    rows = np.stack([np.zeros(len(tokens)), np.arange(len(tokens))], 1).astype(np.int32)
    network.logits(StepRows(tokens, rows, np.arange(len(tokens) // 16 + 1, dtype=np.int32)[None], np.array([len(tokens) - 1])))
    return recorder.maxima


def _weights(folder: Path, device: torch.device) -> dict[str, torch.Tensor]:
    """Raises ModelRefused if there are none, or a file is damaged."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelRefused(f"{folder} has no safetensors")
    weights: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            weights |= load_file(file, device=str(device))
        except (OSError, SafetensorError) as error:
            raise ModelRefused(f"{file} cannot be read: {error}") from error
    return weights
