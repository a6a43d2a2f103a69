"""Strings of spoken digits: clips of the Free Spoken Digit Dataset joined with pauses and noise; and how many words were heard
wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from inference_workers.networks import speech
from schemas.errors import BadSettings

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "yweweler")
MEASURED_STRINGS = 200
Floats = npt.NDArray[np.float32]
Clips = Mapping[str, Mapping[int, list[Floats]]]  # speaker, digit


def load(folder: Path) -> Clips:
    """Recordings of `fsdd`, each float32 (samples,) at RATE_HZ. Raises BadSettings that names the missing folder."""
    recordings = folder / "fsdd" / "recordings"
    files = sorted(recordings.glob("*.wav"))
    if not files:
        raise BadSettings(f"there are no recordings in {recordings}: name the folder of the data sets with --data")
    clips: dict[str, dict[int, list[Floats]]] = {speaker: {digit: [] for digit in range(10)} for speaker in SPEAKERS}
    for file in files:
        digit, speaker, _ = file.stem.split("_")
        samples, rate_hz = soundfile.read(file, dtype="float32")
        if rate_hz != speech.RATE_HZ:
            raise BadSettings(f"{file} has {rate_hz} samples per second, not {speech.RATE_HZ}")
        clips[speaker][int(digit)].append(samples)
    return clips


def string_of(
    clips: Mapping[int, list[Floats]], digits: Sequence[int] | npt.NDArray[np.int64], random: np.random.Generator
) -> Floats:
    """Clips of the digits, each at its own loudness, with pauses of up to 0.3 s, over faint noise: float32 (samples,)."""
    parts = [np.zeros(random.integers(0, 2400), np.float32)]
    for digit in digits:
        clip = clips[digit][random.integers(len(clips[digit]))]
        parts += [clip * random.uniform(0.5, 1.5), np.zeros(random.integers(160, 2400), np.float32)]
    joined = np.concatenate(parts)
    noise = random.standard_normal(len(joined)).astype(np.float32) * 10 ** random.uniform(-4, -2)
    samples: Floats = (joined / (np.abs(joined).max() + 1e-6) * 0.5 + noise).astype(np.float32)
    return samples


def strings(clips: Clips, speaker: str, count: int = MEASURED_STRINGS, seed: int = 99) -> list[tuple[Floats, list[str]]]:
    """Strings of one to six digits of a speaker: samples, float32 (n,), and words. The same seed gives the same strings."""
    random, spoken = np.random.default_rng(seed), []
    for _ in range(count):
        digits = random.integers(0, 10, random.integers(1, 7))
        spoken.append((string_of(clips[speaker], digits, random), [WORDS[digit] for digit in digits]))
    return spoken


def edits(expected: Sequence[str], heard: Sequence[str]) -> tuple[int, int, int]:
    """Substitutions, deletions, insertions of a shortest path from `expected` to `heard` (Levenshtein)."""
    rows = [(at, 0, 0, at) for at in range(len(heard) + 1)]  # errors, substitutions, deletions, insertions
    for word in expected:
        before, rows = rows, [(rows[0][0] + 1, rows[0][1], rows[0][2] + 1, rows[0][3])]
        for at, heard_word in enumerate(heard):
            e, s, d, i = before[at]
            same = (e, s, d, i) if word == heard_word else (e + 1, s + 1, d, i)
            e, s, d, i = before[at + 1]
            deleted = (e + 1, s, d + 1, i)
            e, s, d, i = rows[at]
            rows.append(min(same, deleted, (e + 1, s, d, i + 1)))
    return rows[-1][1:]
