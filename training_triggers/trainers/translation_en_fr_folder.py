"""The model folder of `translation-en-fr`: two graphs (encoder, one step of the decoder), signature and card."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inference_workers.networks.tokens import PAD
from inference_workers.networks.translator import Encode, Step, Translator
from training_triggers.trainers import export
from training_triggers.trainers.translation_en_fr import BEAM, MAX_TOKENS, NAME, SetScores, Trained

SIZES = ((3, 9), (1, 4), (64, 20))  # sentences and tokens of the inputs on which ONNX is compared with torch


def write(trained: Trained, scores: Sequence[SetScores], trained_on: int, folder: Path, version: str) -> str:
    """Write the whole model folder and return its digest. trained_on: pairs."""
    translator = trained.translator
    shape = dataclasses.asdict(translator.shape)
    config = {
        "task": "translation",
        "network": "translator",
        "shape": shape,
        "pairs": [["en", "fr"], ["fr", "en"]],
        "coverage": ["en-fr", "fr-en"],
        "beam": BEAM,
        "max_tokens": MAX_TOKENS,
    }
    artifact = export.Artifact(
        NAME,
        export.halves(translator),
        _graphs(translator),
        config,
        _signature(shape),
        lambda worst: _card(trained, scores, trained_on, version, worst),
        {"tokenizer.json": trained.tokenizer.to_str().encode()},
    )
    return export.write(artifact, folder, version)


def _graphs(translator: Translator) -> list[export.Graph]:
    memory = ({1: "n", 3: "length"}, {1: "n", 3: "length"}, {0: "n", 3: "length"})
    return [
        export.Graph(
            "encoder.onnx",
            Encode(translator).eval(),
            ("tokens",),
            ("keys", "values", "mask"),
            [(_tokens(translator, *size),) for size in SIZES],
            ({0: "n", 1: "length"},),
            half=True,
        ),
        export.Graph(
            "decoder.onnx",
            Step(translator).eval(),
            ("tokens", "states", "keys", "values", "mask"),
            ("log_probabilities", "after"),
            [_step(translator, *size) for size in SIZES],
            ({0: "n"}, {1: "n"}, *memory),
            half=True,
        ),
    ]


def _tokens(translator: Translator, n: int, length: int) -> Tensor:
    """Random sentences, int64 (n, length); the first is half as long as the others."""
    random = torch.Generator().manual_seed(n + length)
    tokens = torch.randint(4, translator.shape.vocabulary, (n, length), generator=random)
    tokens[0, length // 2 + 1 :] = PAD
    return tokens


def _step(translator: Translator, n: int, length: int) -> tuple[Tensor, ...]:
    """Random inputs of one step of the decoder."""
    shape = translator.shape
    with torch.no_grad():
        keys, values, mask = translator.encode(_tokens(translator, n, length))
    random = torch.Generator().manual_seed(n)
    states = torch.randn(shape.decoder_layers, n, shape.width, generator=random)
    return torch.randint(4, shape.vocabulary, (n, 1), generator=random), states, keys, values, mask


def _signature(shape: dict[str, int]) -> dict[str, Any]:
    memory_shape = [shape["decoder_layers"], "n", shape["heads"], "length", shape["width"] // shape["heads"]]
    keys_values = {name: {"dtype": "float32", "shape": memory_shape} for name in ("keys", "values")}
    mask = {"dtype": "float32", "shape": ["n", 1, 1, "length"]}
    states = {"dtype": "float32", "shape": [shape["decoder_layers"], "n", shape["width"]]}
    return {
        "encoder.onnx": {
            "inputs": {"tokens": {"dtype": "int64", "shape": ["n", "length"]}},
            "outputs": {**keys_values, "mask": mask},
        },
        "decoder.onnx": {
            "inputs": {"tokens": {"dtype": "int64", "shape": ["n", 1]}, "states": states, **keys_values, "mask": mask},
            "outputs": {
                "log_probabilities": {"dtype": "float32", "shape": ["n", shape["vocabulary"]]},
                "after": states,
            },
        },
    }


def _card(trained: Trained, scores: Sequence[SetScores], trained_on: int, version: str, worst: float) -> str:
    rows = "\n".join(f"| {s.name} | {s.sentences:,} | {s.bleu:.1f} | {s.chrf:.1f} |" for s in scores)
    wrong = "\n".join(
        f"| {s.name} | {source} | {ours} | {reference} |" for s in scores for source, ours, reference in s.examples[:4]
    )
    shape = trained.translator.shape
    millions = sum(p.numel() for p in trained.translator.parameters()) / 1e6
    return f"""# {NAME}, version {version}

English to French and French to English, for short everyday sentences of up to some fifteen words. {millions:.1f} million weights:
a transformer encoder of {shape.encoder_layers} layers, a recurrent decoder of {shape.decoder_layers}, width {shape.width}, one vocabulary of {shape.vocabulary:,}
pieces, beam {BEAM}. It knows few names, no long sentences, no technical terms, and cannot say that it does not know.

## Data and licence

Tatoeba sentence pairs, CC BY 2.0 FR: {trained_on:,} pairs to train, both ways, {len(trained.losses)} epochs. Attribution: tatoeba.org and its
contributors. These weights: CC BY 2.0 FR. multi30k is measured on and nothing of it is in here.

## SetScores (sacrebleu, defaults)

| sentences | number | BLEU | chrF |
|---|---|---|---|
{rows}

No held-out sentence occurs in training on either side; a sentence with several translations is scored against all
of them. Near relatives do occur ("Tom is here", "Tom is there"), which flatters Tatoeba's figures. Captions are longer
and of other words: that is what the second figure of each direction shows.

## What it gets wrong: from the worst tenth

| set | source | ours | reference |
|---|---|---|---|
{wrong}

Weights are 16 bits and widened when loaded; the figures are theirs. ONNX against torch, three sizes: largest difference
{worst:.1e}.

## Made again

`./millrace models train {NAME} --data DIR`. About an hour on two cores; deterministic on one machine.
"""
