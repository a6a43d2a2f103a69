"""Trains `transcription-digits`: strings of spoken English digits, log-mel frames and CTC (Graves et al., 2006).

Strings are made by joining clips of one speaker with pauses and noise. The test speaker is in no training string:
what is measured is how it hears a voice it never heard. All five speakers take their turn; one of the five models is
written, with its own figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torch.nn import functional as f

from inference_workers.networks import speech
from inference_workers.networks.listener import STRIDE, Listener
from schemas.errors import BadSettings
from training_triggers.trainers import export

NAME = "transcription-digits"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
VOCABULARY = ("", *WORDS)
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "yweweler")
SHIPPED_WITHOUT = "george"
SEED = 7
STEPS = 1_200
BATCH = 24
MEASURED_STRINGS = 200
Floats = npt.NDArray[np.float32]
Progress = Callable[[str], None]
Clips = Mapping[str, Mapping[int, list[Floats]]]  # speaker, digit


@dataclass(frozen=True)
class Measured:
    """Word errors on strings of one speaker. kinds: substitutions, deletions, insertions."""

    speaker: str
    words: int
    errors: int
    kinds: tuple[int, int, int]
    whole_strings_right: float

    @property
    def word_error_rate(self) -> float:
        return self.errors / self.words


def load(folder: Path) -> Clips:
    """Raises BadSettings that names the folder that is missing."""
    recordings = folder / "fsdd" / "recordings"
    files = sorted(recordings.glob("*.wav"))
    if not files:
        raise BadSettings(f"{recordings} holds no recordings: name the folder of the data sets with --data")
    clips: dict[str, dict[int, list[Floats]]] = {speaker: {digit: [] for digit in range(10)} for speaker in SPEAKERS}
    for file in files:
        digit, speaker, _ = file.stem.split("_")
        samples, rate_hz = soundfile.read(file, dtype="float32")
        if rate_hz != speech.RATE_HZ:
            raise BadSettings(f"{file} has {rate_hz} samples a second, not {speech.RATE_HZ}")
        clips[speaker][int(digit)].append(samples)
    return clips


def string_of(
    clips: Mapping[int, list[Floats]], digits: Sequence[int] | npt.NDArray[np.int64], random: np.random.Generator
) -> Floats:
    """Clips of the digits, each at its own loudness, with pauses of up to 0.3 s, over faint noise."""
    parts = [np.zeros(random.integers(0, 2400), np.float32)]
    for digit in digits:
        clip = clips[digit][random.integers(len(clips[digit]))]
        parts += [clip * random.uniform(0.5, 1.5), np.zeros(random.integers(160, 2400), np.float32)]
    joined = np.concatenate(parts)
    noise = random.standard_normal(len(joined)).astype(np.float32) * 10 ** random.uniform(-4, -2)
    found: Floats = (joined / (np.abs(joined).max() + 1e-6) * 0.5 + noise).astype(np.float32)
    return found


def _another_voice(samples: Floats, random: np.random.Generator) -> Floats:
    """Faster or slower by up to a fifth, which moves pitch and formants too (Ko et al., 2015)."""
    speed = random.uniform(0.82, 1.22)
    at = np.arange(0, len(samples) - 1, speed)
    found: Floats = np.interp(at, np.arange(len(samples)), samples).astype(np.float32)
    return found


def _masked(features: Floats, random: np.random.Generator) -> Floats:
    """A band and a stretch of time blanked (SpecAugment, Park et al., 2019), bands shifted up or down by one or two."""
    moved: Floats = np.roll(features, random.integers(-2, 3), axis=1)
    band, frame = random.integers(0, speech.MELS - 6), random.integers(0, max(1, len(moved) - 8))
    moved[:, band : band + random.integers(0, 7)] = 0
    moved[frame : frame + random.integers(0, 9)] = 0
    return moved


def train(clips: Clips, without: str, progress: Progress, steps: int = STEPS, threads: int = 2) -> Listener:
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
        log_probabilities.transpose(0, 1), torch.from_numpy(np.concatenate(targets)), torch.from_numpy((lengths + 3) // 4),
        torch.tensor([len(target) for target in targets]), blank=speech.BLANK, zero_infinity=True,
    )  # fmt: skip


def strings(clips: Clips, speaker: str, count: int = MEASURED_STRINGS, seed: int = 99) -> list[tuple[Floats, list[str]]]:
    """Strings of one to six digits of a speaker, and their words; the same for a seed."""
    random, found = np.random.default_rng(seed), []
    for _ in range(count):
        digits = random.integers(0, 10, random.integers(1, 7))
        found.append((string_of(clips[speaker], digits, random), [WORDS[digit] for digit in digits]))
    return found


def measure(network: Listener, clips: Clips, speaker: str) -> Measured:
    words = errors = right = 0
    kinds = np.zeros(3, np.int64)
    for samples, wanted in strings(clips, speaker):
        features, lengths = speech.pad([speech.log_mel(samples)])
        with torch.no_grad():
            probabilities = network(torch.from_numpy(features), torch.from_numpy(lengths)).exp()[0].numpy()
        heard = [word.text for word in speech.best_path(probabilities, VOCABULARY, STRIDE * speech.FRAME_S)]
        found = edits(wanted, heard)
        words, errors, right = words + len(wanted), errors + sum(found), right + (heard == wanted)
        kinds += found
    substitutions, deletions, insertions = kinds.tolist()
    return Measured(speaker, words, errors, (substitutions, deletions, insertions), right / MEASURED_STRINGS)


def edits(wanted: Sequence[str], heard: Sequence[str]) -> tuple[int, int, int]:
    """Substitutions, deletions, insertions of a shortest way from `wanted` to `heard` (Levenshtein)."""
    rows = [(at, 0, 0, at) for at in range(len(heard) + 1)]  # errors, substitutions, deletions, insertions
    for word in wanted:
        before, rows = rows, [(rows[0][0] + 1, rows[0][1], rows[0][2] + 1, rows[0][3])]
        for at, said in enumerate(heard):
            e, s, d, i = before[at]
            same = (e, s, d, i) if word == said else (e + 1, s + 1, d, i)
            e, s, d, i = before[at + 1]
            deleted = (e + 1, s, d + 1, i)
            e, s, d, i = rows[at]
            rows.append(min(same, deleted, (e + 1, s, d, i + 1)))
    return rows[-1][1:]


def write(network: Listener, measured: Sequence[Measured], folder: Path, version: str) -> str:
    """Write the folder of the model that never heard SHIPPED_WITHOUT; its digest."""

    def example(n: int, frames: int) -> tuple[torch.Tensor, ...]:
        random = torch.Generator().manual_seed(n)
        lengths = torch.randint(max(1, frames // 2), frames + 1, (n,), generator=random)
        lengths[0] = frames
        there = torch.arange(frames)[None, :, None] < lengths[:, None, None]
        return torch.randn(n, frames, speech.MELS, generator=random) * there, lengths

    cases = [example(*size) for size in ((3, 50), (1, 13), (32, 300))]
    graph = export.Graph(
        "model.onnx", network, ("features", "lengths"), ("log_probabilities",), cases, ({0: "n", 1: "frames"}, {0: "n"}),
        half=True,
    )  # fmt: skip
    config = {
        "task": "transcription", "network": "listener", "coverage": list(WORDS), "vocabulary": list(VOCABULARY),
        "unit": "word", "blank": speech.BLANK, "rate_hz": speech.RATE_HZ, "frame_s": STRIDE * speech.FRAME_S,
    }  # fmt: skip
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


def _card(measured: Sequence[Measured], version: str, worst: float) -> str:
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
