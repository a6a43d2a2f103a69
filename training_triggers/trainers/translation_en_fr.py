"""Trains `translation-en-fr`: short sentences, both directions in one model, on Tatoeba pairs.

Deterministic on one machine: fixed seeds, fixed thread count. The weights that are written are an exponential moving
average (Polyak and Juditsky, 1992), which stands in for averaging checkpoints.
"""

from __future__ import annotations

import copy
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
from inference_workers.networks.translator import Shape, Translator
from training_triggers.trainers import export
from training_triggers.trainers.translation_en_fr_data import LANGUAGES, Pairs, captions, references, sources

NAME = "translation-en-fr"
SEED = 7
VOCABULARY = 4_000
MAX_TOKENS = 64
BATCH_TOKENS = 4_000  # of the target side
EPOCHS = 12
PEAK_RATE = 2e-3
WARM_UP_STEPS = 800
KEEP = 0.999  # of the moving average, per step
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Trained:
    translator: Translator
    tokenizer: Tokenizer
    losses: list[float]  # mean training loss of each epoch, nats per token, label smoothing included


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


@dataclass
class _Average:
    """An exponential moving average of a network's weights."""

    translator: Translator
    steps: int = 0

    @torch.no_grad()
    def update(self, trained: Translator) -> None:
        self.steps += 1
        keep = min(KEEP, (1 + self.steps) / (10 + self.steps))
        for average, weights in zip(self.translator.parameters(), trained.parameters(), strict=True):
            average.lerp_(weights, 1 - keep)


def train(data: Pairs, progress: Progress, *, epochs: int = EPOCHS, shape: Shape | None = None, threads: int = 2) -> Trained:
    torch.manual_seed(SEED)
    torch.set_num_threads(threads)
    tokenizer = make_tokenizer(data.train, shape.vocabulary if shape else VOCABULARY)
    translator = Translator(shape or Shape(tokenizer.get_vocab_size()))
    average = _Average(copy.deepcopy(translator))
    examples = _examples(tokenizer, data)
    steps = epochs * sum(1 for _ in _batches(examples, random.Random(SEED)))
    optimizer = torch.optim.AdamW(translator.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    shuffle, losses = random.Random(SEED), []
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
            average.update(translator)
            total, tokens = total + loss.item() * count, tokens + count
            if average.steps % 200 == 0:
                progress(f"step {average.steps} of {steps}, loss {total / tokens:.3f}")
        losses.append(total / tokens)
        progress(f"epoch {epoch + 1} of {epochs}, loss {losses[-1]:.3f}")
    averaged: Translator = export.rounded(average.translator.eval())  # type: ignore[assignment]
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
    examples = []
    for here, there in ((0, 1), (1, 0)):
        language = [LANGUAGES[there]] * len(data.train)
        source, source_cut = texts.encode([pair[here] for pair in data.train], language, MAX_TOKENS)
        target, target_cut = texts.encode([pair[there] for pair in data.train], language, MAX_TOKENS)
        pairs = zip(source, target, source_cut, target_cut, strict=True)
        examples += [(s, [START, *t[1:]]) for s, t, s_cut, t_cut in pairs if not s_cut and not t_cut]
    return examples


def _batches(examples: list[Example], shuffle: random.Random) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of pairs of similar length, in random order: source and target tokens, int64 (n, length)."""
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
    expected = target[:, 1:]
    loss = f.cross_entropy(logits.flatten(0, 1), expected.flatten(), ignore_index=PAD, label_smoothing=0.1)
    return loss, int((expected != PAD).sum())


# --- measured ------------------------------------------------------------------------------------------------------

BEAM = 4


@dataclass(frozen=True)
class SetScores:
    """BLEU and chrF of sacrebleu on one set. examples: (source, ours, a reference) of the worst sentences by chrF."""

    name: str
    sentences: int
    bleu: float
    chrf: float
    examples: list[tuple[str, str, str]]


def translated(trained: Trained, texts: Sequence[str], target: str, beam: int = BEAM) -> list[str]:
    """Translations by torch, in batches of 64 texts of similar length, with the worker's beam search."""
    with tempfile.TemporaryDirectory() as folder:
        trained.tokenizer.save(str(Path(folder) / "tokenizer.json"))
        codec = TranslationTokenizer(Path(folder) / "tokenizer.json", LANGUAGES)
    rows, _ = codec.encode(texts, [target] * len(texts), MAX_TOKENS)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    translations = [""] * len(rows)
    shape = trained.translator.shape
    for at in range(0, len(order), 64):
        batch = order[at : at + 64]
        tokens = pad([rows[i] for i in batch])
        with torch.no_grad():
            keys, values, mask = trained.translator.encode(torch.from_numpy(tokens))

        def step(last: Any, states: Any, which: Any, memory: Any = (keys, values, mask)) -> Any:
            keys, values, mask = memory
            with torch.no_grad():
                logits, after = trained.translator.decode(
                    torch.from_numpy(last[:, None]), torch.from_numpy(states), keys[:, which], values[:, which], mask[which]
                )
                return torch.log_softmax(logits[:, 0], dim=-1).numpy(), after.numpy()

        states = np.zeros((shape.decoder_layers, len(batch), shape.width), np.float32)
        best = beam_search(step, states, 2 * tokens.shape[1] + 8, beam)
        for i, text in zip(batch, codec.decode([tokens for tokens, _ in best]), strict=True):
            translations[i] = text
    return translations


def measure(trained: Trained, data: Pairs, data_folder: Path) -> list[SetScores]:
    """Scores on held-out Tatoeba sentences with all their references, and on photo captions, which are a different kind of
    text."""
    measured = []
    for direction, held_out in data.held_out.items():
        ours = translated(trained, sources(held_out), direction.partition("-")[2])
        measured.append(_scored(f"Tatoeba, held out, {direction}", sources(held_out), ours, references(held_out)))
        here, there = direction.split("-")
        texts = captions(data_folder, here)
        ours = translated(trained, texts, there)
        measured.append(_scored(f"multi30k test 2016, {direction}", texts, ours, [captions(data_folder, there)]))
    return measured


def _scored(name: str, source: Sequence[str], ours: list[str], refs: list[list[str]]) -> SetScores:
    from sacrebleu.metrics import BLEU, CHRF  # type: ignore[attr-defined]

    by_sentence = [CHRF().sentence_score(text, [column[i] for column in refs]).score for i, text in enumerate(ours)]
    worst = sorted(range(len(ours)), key=lambda i: by_sentence[i])[: len(ours) // 10 : max(1, len(ours) // 60)]
    return SetScores(
        name,
        len(ours),
        BLEU().corpus_score(ours, refs).score,
        CHRF().corpus_score(ours, refs).score,
        [(source[i], ours[i], refs[0][i]) for i in worst[:6]],
    )
