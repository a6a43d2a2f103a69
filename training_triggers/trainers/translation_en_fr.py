"""Trains `translation-en-fr`: short sentences, both directions in one model, on Tatoeba pairs.

Deterministic on one machine: fixed seeds, fixed thread count. The weights that are written are an exponential moving
average (Polyak and Juditsky, 1992), which stands in for averaging checkpoints.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from torch import Tensor
from torch.nn import functional as f

from inference_workers.networks.beam_search import beam_search
from inference_workers.networks.tokens import PAD, SPECIAL, START, TranslationTokenizer, pad
from inference_workers.networks.translator import Encode, Shape, Step, Translator
from training_triggers.trainers import export
from training_triggers.trainers.translation_en_fr_data import LANGUAGES, Pairs, references, sources

NAME = "translation-en-fr"
SEED = 7
VOCABULARY = 4_000
MAX_TOKENS = 64
BATCH_TOKENS = 4_000  # of the target side
EPOCHS = 12
PEAK_RATE = 2e-3
WARM_UP_STEPS = 800
KEEP = 0.999  # of the moving average, a step
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Trained:
    translator: Translator
    tokenizer: Tokenizer
    losses: list[float]  # mean training loss of each epoch, nats a token, label smoothing included


def make_tokenizer(pairs: Sequence[tuple[str, str]], vocabulary: int) -> Tokenizer:
    """Byte-pair encoding (Sennrich et al., 2016) over both languages; case is kept."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace("’", "'")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation("isolated")])
    tokenizer.decoder = decoders.Metaspace()
    special = [*SPECIAL, *(f"<2{language}>" for language in LANGUAGES)]
    trainer = BpeTrainer(vocab_size=vocabulary, special_tokens=special, show_progress=False, min_frequency=2)
    tokenizer.train_from_iterator((text for pair in pairs for text in pair), trainer)
    return tokenizer


def train(data: Pairs, progress: Progress, *, epochs: int = EPOCHS, shape: Shape | None = None, threads: int = 2) -> Trained:
    torch.manual_seed(SEED)
    torch.set_num_threads(threads)
    tokenizer = make_tokenizer(data.train, shape.vocabulary if shape else VOCABULARY)
    translator = Translator(shape or Shape(tokenizer.get_vocab_size()))
    average = copy.deepcopy(translator)
    examples = _examples(tokenizer, data)
    steps = epochs * sum(1 for _ in _batches(examples, random.Random(SEED)))
    optimizer = torch.optim.AdamW(translator.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    shuffle, losses, done = random.Random(SEED), [], 0
    for epoch in range(epochs):
        total, tokens = 0.0, 0
        translator.train()
        for source, target in _batches(examples, shuffle):
            loss, count = _loss(translator, source, target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(translator.parameters(), 1.0)
            optimizer.step()
            rate.step()
            done += 1
            keep = min(KEEP, (1 + done) / (10 + done))
            with torch.no_grad():
                for mine, theirs in zip(average.parameters(), translator.parameters(), strict=True):
                    mine.lerp_(theirs, 1 - keep)
            total, tokens = total + loss.item() * count, tokens + count
            if done % 200 == 0:
                progress(f"step {done} of {steps}, loss {total / tokens:.3f}")
        losses.append(total / tokens)
        progress(f"epoch {epoch + 1} of {epochs}, loss {losses[-1]:.3f}")
    averaged: Translator = export.rounded(average.eval())  # type: ignore[assignment]
    return Trained(averaged, tokenizer, losses)


def _rate(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / min(WARM_UP_STEPS, max(1, steps // 4)))
    return warm * max(0.02, 1 - step / steps)


Example = tuple[list[int], list[int]]


def _examples(tokenizer: Tokenizer, data: Pairs) -> list[Example]:
    """Source and target tokens of every pair in both directions; the target starts with START and ends with END."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(str(Path(folder) / "tokenizer.json"))
        texts = TranslationTokenizer(Path(folder) / "tokenizer.json", LANGUAGES)
    found = []
    for here, there in ((0, 1), (1, 0)):
        language = [LANGUAGES[there]] * len(data.train)
        source, cut = texts.encode([pair[here] for pair in data.train], language, MAX_TOKENS)
        target, cut_too = texts.encode([pair[there] for pair in data.train], language, MAX_TOKENS)
        found += [(s, [START, *t[1:]]) for s, t, a, b in zip(source, target, cut, cut_too, strict=True) if not a and not b]
    return found


def _batches(examples: list[Example], shuffle: random.Random) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of like length together, in random order."""
    order = sorted(range(len(examples)), key=lambda i: (len(examples[i][1]), len(examples[i][0]), shuffle.random()))
    batches: list[list[int]] = [[]]
    for i in order:
        if batches[-1] and (len(batches[-1]) + 1) * len(examples[i][1]) > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(i)
    shuffle.shuffle(batches)
    for batch in batches:
        yield torch.from_numpy(pad([examples[i][0] for i in batch])), torch.from_numpy(pad([examples[i][1] for i in batch]))


def _loss(translator: Translator, source: Tensor, target: Tensor) -> tuple[Tensor, int]:
    logits = translator(source, target[:, :-1])
    wanted = target[:, 1:]
    loss = f.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=PAD, label_smoothing=0.1)
    return loss, int((wanted != PAD).sum())


# --- measured and written ------------------------------------------------------------------------------------------

BEAM = 4


@dataclass(frozen=True)
class Measured:
    """BLEU and chrF of sacrebleu on one set. examples: (source, ours, a reference) of the worst sentences by chrF."""

    name: str
    sentences: int
    bleu: float
    chrf: float
    examples: list[tuple[str, str, str]]


def translated(trained: Trained, texts: Sequence[str], target: str, beam: int = BEAM) -> list[str]:
    """By torch, in batches of 64 of like length: the same search as in the worker."""
    with tempfile.TemporaryDirectory() as folder:
        trained.tokenizer.save(str(Path(folder) / "tokenizer.json"))
        codec = TranslationTokenizer(Path(folder) / "tokenizer.json", LANGUAGES)
    rows, _ = codec.encode(texts, [target] * len(texts), MAX_TOKENS)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found = [""] * len(rows)
    shape = trained.translator.shape
    for at in range(0, len(order), 64):
        some = order[at : at + 64]
        tokens = pad([rows[i] for i in some])
        with torch.no_grad():
            keys, values, mask = trained.translator.encode(torch.from_numpy(tokens))

        def step(last: Any, states: Any, which: Any, memory: Any = (keys, values, mask)) -> Any:
            keys, values, mask = memory
            with torch.no_grad():
                logits, after = trained.translator.decode(
                    torch.from_numpy(last[:, None]), torch.from_numpy(states), keys[:, which], values[:, which], mask[which]
                )
                return torch.log_softmax(logits[:, 0], dim=-1).numpy(), after.numpy()

        states = np.zeros((shape.decoder_layers, len(some), shape.width), np.float32)
        best = beam_search(step, states, 2 * tokens.shape[1] + 8, beam)
        for i, text in zip(some, codec.decode([tokens for tokens, _ in best]), strict=True):
            found[i] = text
    return found


def measure(trained: Trained, data: Pairs, data_folder: Path) -> list[Measured]:
    """On held-out Tatoeba sentences with all their references, and on photo captions, which are of another kind."""
    from training_triggers.trainers.translation_en_fr_data import captions

    measured = []
    for direction, held_out in data.held_out.items():
        ours = translated(trained, sources(held_out), direction.partition("-")[2])
        measured.append(_scored(f"Tatoeba, held out, {direction}", sources(held_out), ours, references(held_out)))
        here, there = direction.split("-")
        said = captions(data_folder, here)
        ours = translated(trained, said, there)
        measured.append(_scored(f"multi30k test 2016, {direction}", said, ours, [captions(data_folder, there)]))
    return measured


def _scored(name: str, given: Sequence[str], ours: list[str], wanted: list[list[str]]) -> Measured:
    from sacrebleu.metrics import BLEU, CHRF  # type: ignore[attr-defined]

    by_sentence = [
        CHRF().sentence_score(text, [refs[i] for refs in wanted]).score for i, text in enumerate(ours)
    ]  # fmt: skip
    worst = sorted(range(len(ours)), key=lambda i: by_sentence[i])[: len(ours) // 10 : max(1, len(ours) // 60)]
    return Measured(
        name, len(ours), BLEU().corpus_score(ours, wanted).score, CHRF().corpus_score(ours, wanted).score,
        [(given[i], ours[i], wanted[0][i]) for i in worst[:6]],
    )  # fmt: skip


def write(trained: Trained, measured: Sequence[Measured], trained_on: int, folder: Path, version: str) -> str:
    """Write the whole model folder; its digest."""
    translator = trained.translator
    shape = dataclasses.asdict(translator.shape)

    def tokens(n: int, length: int) -> tuple[Tensor, ...]:
        random = torch.Generator().manual_seed(n + length)
        found = torch.randint(4, shape["vocabulary"], (n, length), generator=random)
        found[0, length // 2 + 1 :] = PAD
        return (found,)

    def step(n: int, length: int) -> tuple[Tensor, ...]:
        with torch.no_grad():
            keys, values, mask = translator.encode(*tokens(n, length))
        random = torch.Generator().manual_seed(n)
        states = torch.randn(shape["decoder_layers"], n, shape["width"], generator=random)
        return torch.randint(4, shape["vocabulary"], (n, 1), generator=random), states, keys, values, mask

    sizes = ((3, 9), (1, 4), (64, 20))
    memory = ({1: "n", 3: "length"}, {1: "n", 3: "length"}, {0: "n", 3: "length"})
    graphs = [
        export.Graph(
            "encoder.onnx", Encode(translator).eval(), ("tokens",), ("keys", "values", "mask"), [tokens(*size) for size in sizes],
            ({0: "n", 1: "length"},), half=True,
        ),
        export.Graph(
            "decoder.onnx", Step(translator).eval(), ("tokens", "states", "keys", "values", "mask"), ("log_probabilities", "after"),
            [step(*size) for size in sizes], ({0: "n"}, {1: "n"}, *memory), half=True,
        ),
    ]  # fmt: skip
    config = {
        "task": "translation", "network": "translator", "shape": shape, "pairs": [["en", "fr"], ["fr", "en"]],
        "coverage": ["en-fr", "fr-en"], "beam": BEAM, "max_tokens": MAX_TOKENS,
    }  # fmt: skip
    heads = shape["width"] // shape["heads"]
    memory_shape = [shape["decoder_layers"], "n", shape["heads"], "length", heads]
    keys_values = {name: {"dtype": "float32", "shape": memory_shape} for name in ("keys", "values")}
    mask = {"dtype": "float32", "shape": ["n", 1, 1, "length"]}
    states = {"dtype": "float32", "shape": [shape["decoder_layers"], "n", shape["width"]]}
    signature = {
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
    artifact = export.Artifact(
        NAME, export.halves(translator), graphs, config, signature,
        lambda worst: _card(trained, measured, trained_on, version, worst),
        {"tokenizer.json": trained.tokenizer.to_str().encode()},
    )  # fmt: skip
    return export.write(artifact, folder, version)


def _card(trained: Trained, measured: Sequence[Measured], trained_on: int, version: str, worst: float) -> str:
    scores = "\n".join(f"| {m.name} | {m.sentences:,} | {m.bleu:.1f} | {m.chrf:.1f} |" for m in measured)
    wrong = "\n".join(f"| {m.name} | {given} | {ours} | {wanted} |" for m in measured for given, ours, wanted in m.examples[:4])
    shape = trained.translator.shape
    millions = sum(p.numel() for p in trained.translator.parameters()) / 1e6
    return f"""# {NAME}, version {version}

English to French and French to English, for short everyday sentences of up to some fifteen words. {millions:.1f} million weights:
a transformer encoder of {shape.encoder_layers} layers, a recurrent decoder of {shape.decoder_layers}, width {shape.width}, one vocabulary of {shape.vocabulary:,}
pieces, beam {BEAM}. It knows few names, no long sentences, no technical terms, and cannot say that it does not know.

## Data and licence

Tatoeba sentence pairs, CC BY 2.0 FR: {trained_on:,} pairs to train, both ways, {len(trained.losses)} epochs. Attribution: tatoeba.org and its
contributors. These weights: CC BY 2.0 FR. multi30k is measured on and nothing of it is in here.

## Measured (sacrebleu, defaults)

| sentences | number | BLEU | chrF |
|---|---|---|---|
{scores}

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
