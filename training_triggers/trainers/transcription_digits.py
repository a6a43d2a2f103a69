"""Trains `transcription-digits`: strings of spoken English digits, log-mel frames and CTC (Graves et al., 2006).

Strings are made by joining clips of one speaker with pauses and noise. No training string contains the test speaker, so that the
word error rate is that of an unknown voice. Each of the five speakers is the test speaker of one model; one of the five models is
written, with its own figure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as f

from inference_workers.networks import speech
from inference_workers.networks.listener import STRIDE, Listener
from training_triggers.trainers import export
from training_triggers.trainers.transcription_digits_data import (
    MEASURED_STRINGS,
    WORDS,
    Clips,
    Floats,
    edits,
    string_of,
    strings,
)

NAME = "transcription-digits"
VOCABULARY = ("", *WORDS)
SHIPPED_WITHOUT = "george"
SEED = 7
STEPS = 1_200
BATCH = 24
Progress = Callable[[str], None]


@dataclass(frozen=True)
class WordErrors:
    """Word errors on strings of one speaker. kinds: substitutions, deletions, insertions."""

    speaker: str
    words: int
    errors: int
    kinds: tuple[int, int, int]
    whole_strings_right: float

    @property
    def word_error_rate(self) -> float:
        return self.errors / self.words


def _another_voice(samples: Floats, random: np.random.Generator) -> Floats:
    """Samples played faster or slower by up to a fifth, which moves pitch and formants too (Ko et al., 2015): float32
    (samples,)."""
    speed = random.uniform(0.82, 1.22)
    at = np.arange(0, len(samples) - 1, speed)
    moved: Floats = np.interp(at, np.arange(len(samples)), samples).astype(np.float32)
    return moved


def _masked(features: Floats, random: np.random.Generator) -> Floats:
    """Features with a band and a stretch of time blanked (SpecAugment, Park et al., 2019), and bands shifted up or down by one or
    two."""
    moved: Floats = np.roll(features, random.integers(-2, 3), axis=1)
    band, frame = random.integers(0, speech.MELS - 6), random.integers(0, max(1, len(moved) - 8))
    moved[:, band : band + random.integers(0, 7)] = 0
    moved[frame : frame + random.integers(0, 9)] = 0
    return moved


def train(clips: Clips, without: str, progress: Progress, steps: int = STEPS, threads: int = 2) -> Listener:
    """Train on strings made of the clips (float32 (samples,)) of all speakers except `without`."""
    torch.manual_seed(SEED)
    torch.set_num_threads(threads)
    random = np.random.default_rng(SEED)
    speakers = [speaker for speaker in clips if speaker != without]
    network = Listener(speech.MELS, len(VOCABULARY))
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    network.train()
    total = 0.0
    for step in range(1, steps + 1):
        features, targets = [], []
        for _ in range(BATCH):
            digits = random.integers(0, 10, random.integers(1, 7))
            voice = clips[speakers[random.integers(len(speakers))]]
            features.append(_masked(speech.log_mel(_another_voice(string_of(voice, digits, random), random)), random))
            targets.append(digits + 1)
        loss = _loss(network, features, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        rate.step()
        total += loss.item()
        if step % 250 == 0:
            progress(f"without {without}: step {step} of {steps}, loss {total / 250:.3f}")
            total = 0.0
    trained: Listener = export.rounded(network.eval())  # type: ignore[assignment]
    return trained


def _loss(network: Listener, features: list[Floats], targets: list[npt.NDArray[np.int64]]) -> torch.Tensor:
    padded, lengths = speech.pad(features)
    log_probabilities = network(torch.from_numpy(padded), torch.from_numpy(lengths))
    return f.ctc_loss(
        log_probabilities.transpose(0, 1),
        torch.from_numpy(np.concatenate(targets)),
        torch.from_numpy((lengths + 3) // 4),
        torch.tensor([len(target) for target in targets]),
        blank=speech.BLANK,
        zero_infinity=True,
    )


def measure(network: Listener, clips: Clips, speaker: str) -> WordErrors:
    """Measure on MEASURED_STRINGS strings made of the clips (float32 (samples,)) of a speaker."""
    words = errors = right = 0
    kinds = np.zeros(3, np.int64)
    for samples, expected in strings(clips, speaker):
        features, lengths = speech.pad([speech.log_mel(samples)])
        with torch.no_grad():
            probabilities = network(torch.from_numpy(features), torch.from_numpy(lengths)).exp()[0].numpy()
        heard = [word.text for word in speech.best_path(probabilities, VOCABULARY, STRIDE * speech.FRAME_S)]
        counts = edits(expected, heard)
        words, errors, right = words + len(expected), errors + sum(counts), right + (heard == expected)
        kinds += counts
    substitutions, deletions, insertions = kinds.tolist()
    return WordErrors(speaker, words, errors, (substitutions, deletions, insertions), right / MEASURED_STRINGS)


def write(network: Listener, measured: Sequence[WordErrors], folder: Path, version: str) -> str:
    """Write the folder of the model that never heard SHIPPED_WITHOUT, and return its digest."""

    def example(n: int, frames: int) -> tuple[torch.Tensor, ...]:
        random = torch.Generator().manual_seed(n)
        lengths = torch.randint(max(1, frames // 2), frames + 1, (n,), generator=random)
        lengths[0] = frames
        there = torch.arange(frames)[None, :, None] < lengths[:, None, None]
        return torch.randn(n, frames, speech.MELS, generator=random) * there, lengths

    cases = [example(*size) for size in ((3, 50), (1, 13), (32, 300))]
    graph = export.Graph(
        "model.onnx",
        network,
        ("features", "lengths"),
        ("log_probabilities",),
        cases,
        ({0: "n", 1: "frames"}, {0: "n"}),
        half=True,
    )
    config = {
        "task": "transcription",
        "network": "listener",
        "coverage": list(WORDS),
        "vocabulary": list(VOCABULARY),
        "unit": "word",
        "blank": speech.BLANK,
        "rate_hz": speech.RATE_HZ,
        "frame_s": STRIDE * speech.FRAME_S,
    }
    signature = {
        "inputs": {
            "features": {"dtype": "float32", "shape": ["n", "frames", speech.MELS]},
            "lengths": {"dtype": "int64", "shape": ["n"]},
        },
        "outputs": {"log_probabilities": {"dtype": "float32", "shape": ["n", f"frames/{STRIDE}", len(VOCABULARY)]}},
    }
    artifact = export.Artifact(
        NAME, export.halves(network), [graph], config, signature, lambda worst: _card(measured, version, worst)
    )
    return export.write(artifact, folder, version)


def _card(measured: Sequence[WordErrors], version: str, worst: float) -> str:
    rows = "\n".join(
        f"| {m.speaker}{' (this model)' if m.speaker == SHIPPED_WITHOUT else ''} | {m.words} | {100 * m.word_error_rate:.1f} % "
        f"| {m.kinds[0]} / {m.kinds[1]} / {m.kinds[2]} | {100 * m.whole_strings_right:.1f} % |"
        for m in measured
    )
    mean = 100 * sum(m.word_error_rate for m in measured) / len(measured)
    return f"""# {NAME}, version {version}

Hears strings of English digits, "zero" to "nine", and says when each was spoken. {len(WORDS)} words, nothing else: other
speech comes out as digits or as nothing. Log-mel frames at {speech.RATE_HZ // 1000} kHz, dilated convolutions, CTC.

## Data and licence

Free Spoken Digit Dataset (Jackson and others), CC BY-SA 4.0: five speakers, 50 clips of each digit. Training strings join
clips of one speaker, at other speeds, over faint noise, with bands and stretches blanked. These weights: CC BY-SA 4.0.

## Measured: a voice that was not in training

Each row is a model of its own, trained on the other four speakers and tested on {MEASURED_STRINGS} strings of one to six digits
of this one. What is shipped is the model that never heard {SHIPPED_WITHOUT}.

| test speaker | words | word error rate | substituted / left out / put in | whole strings right |
|---|---|---|---|---|
{rows}

Mean over speakers: {mean:.1f} %. Four voices are few: expect a new one to land anywhere in this range or outside it,
and clips that were joined to be easier than fluent speech. Times are those of the network's frames, {STRIDE * speech.FRAME_S:.2f} s.

Weights are 16 bits and widened when loaded; the figures are theirs. ONNX against torch, three sizes: largest difference
{worst:.1e}.

## Made again

`./millrace models train {NAME} --data DIR`. Deterministic on one machine.
"""
