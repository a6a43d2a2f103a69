"""`moderation-minilm`: MiniLM out of its package, and what was trained here, out of the shipped `moderation-text`, as one network.

The weights of MiniLM are rounded to 16 bits, in safetensors and in the ONNX file.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from inference_workers.backends.onnx import OnnxNetwork
from inference_workers.fetching.converted import Converted, the_file
from inference_workers.models.folder import SHIPPED, ModelFolder, open_folder
from inference_workers.models.known_words import FILE as WORDS
from inference_workers.networks.hashed_linear import HashedLinear
from inference_workers.networks.onnx_files import write_graph
from inference_workers.networks.sentence_encoder import INPUTS, HashedAndEncoded, SentenceEncoder, of_checkpoint
from schemas.errors import ModelRefused

SHAPES = tuple({0: "n", 1: width} for width in ("words", "words", "chars", "chars", "length", "length"))
SIZES = ((3, 12, 40, 9), (1, 1, 1, 2), (5, 40, 300, 64))  # texts, words, characters, tokens
ATOL = 1e-3


def convert(source: Path, made: Path) -> Converted:
    """Raises ModelRefused if the weights do not fit the network, or ONNX Runtime computes something else than torch."""
    torch.set_num_threads(1)
    light = open_folder(SHIPPED / "moderation-text")
    checkpoint = the_file(source, "modules.json").parent
    encoder = of_checkpoint(checkpoint)
    network = joined(light, encoder)
    state = {name: value.half() if value.dtype == torch.float32 else value for name, value in network.state_dict().items()}
    save_file({name: value.contiguous() for name, value in state.items()}, made / "model.safetensors")
    cases = [_example(network, *size) for size in SIZES]
    write_graph(network, made / "model.onnx", cases[0], INPUTS, ("logits", "embedding"), SHAPES, half=True)
    shutil.copyfile(checkpoint / "tokenizer.json", made / "tokenizer.json")
    shutil.copyfile(light.path / WORDS, made / WORDS)
    worst = max(_difference(network, case, made) for case in cases)
    config = {
        name: light.config[name] for name in ("task", "word_bits", "char_bits", "known_words", "coverage", "not_covered_because")
    }
    config |= {
        "network": "hashed_and_encoded",
        "encoder": asdict(encoder.shape),
        "thresholds": light.config["minilm_thresholds"],
        "made_from": {"name": light.name, "version": light.version, "digest": light.digest},
    }
    notes = [
        f"The sum of two judgements: by `moderation-text` {light.version} (digest {light.digest[:12]}), and by a linear layer on MiniLM's "
        "embedding. Its figures beside those of others are on the card of `moderation-text`.",
        f"Weights in 16 bits. Largest difference of an output between ONNX Runtime and torch: {worst:.1e}.",
    ]
    return Converted(config, signature(light, encoder.shape.width), notes)


def joined(light: ModelFolder, encoder: SentenceEncoder) -> HashedAndEncoded:
    """The network with the weights of the light version, of its head and of the encoder, rounded to 16 bits. Raises ModelRefused if the
    light version has no head, or one of another width."""
    if "minilm_thresholds" not in light.config:
        raise ModelRefused(f"{light.path} has no head for MiniLM: `./millrace models train moderation-text` writes one")
    classes = len(light.coverage)
    hashed = HashedLinear(2 ** light.config["word_bits"], 2 ** light.config["char_bits"], classes)
    network = HashedAndEncoded(hashed, encoder, encoder.shape.width, classes)
    tables = {f"hashed.{name}": value for name, value in load_file(light.path / "model.safetensors").items()}
    tables |= load_file(light.path / "minilm_head.safetensors")
    expected = network.state_dict()
    try:
        for name, value in tables.items():
            expected[name].copy_(value)
    except (KeyError, RuntimeError) as error:
        raise ModelRefused(f"{light.path}: its weights do not fit the network: {error}") from error
    with torch.no_grad():
        for value in expected.values():
            if value.dtype == torch.float32:
                value.copy_(value.half().float())
    return network.eval()


def signature(light: ModelFolder, width: int) -> dict[str, object]:
    """Of the network with an embedding of this width."""
    tokens = {"dtype": "int64", "shape": ["n", "length"]}
    outputs = {**light.signature["outputs"], "embedding": {"dtype": "float32", "shape": ["n", width]}}
    return {"inputs": {**light.signature["inputs"], "tokens": tokens, "mask": tokens}, "outputs": outputs}


def _example(network: HashedAndEncoded, n: int, words: int, chars: int, length: int) -> tuple[torch.Tensor, ...]:
    """Random inputs; the last text has one token only."""
    draw, tensors = torch.Generator().manual_seed(n), []
    for width, table in ((words, network.hashed.word_idf), (chars, network.hashed.char_idf)):
        tensors.append(torch.randint(0, len(table), (n, width), generator=draw))
        tensors.append(torch.randint(0, 4, (n, width), generator=draw).float())
    tensors.append(torch.randint(0, network.encoder.shape.vocabulary, (n, length), generator=draw))
    mask = torch.ones(n, length, dtype=torch.int64)
    mask[-1, 1:] = 0
    return (*tensors, mask)


def _difference(network: HashedAndEncoded, inputs: tuple[torch.Tensor, ...], made: Path) -> float:
    with torch.inference_mode():
        expected = network(*inputs)
    feeds = {name: value.numpy() for name, value in zip(INPUTS, inputs, strict=True)}
    out = OnnxNetwork(ModelFolder(made, made.name, "", "", {}, {})).run(feeds)
    pairs = zip((out["logits"], out["embedding"]), expected, strict=True)
    worst = max(float(np.abs(by_onnx - by_torch.numpy()).max()) for by_onnx, by_torch in pairs)
    if worst > ATOL:
        raise ModelRefused(f"ONNX Runtime and torch differ by {worst:.1e}; at most {ATOL} is allowed")
    return worst
