"""Converts sound to features, and a network's output to words, for the trainer and the transcription task. numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

RATE_HZ = 8_000
WINDOW, HOP, FFT, MELS = 200, 80, 256, 40  # in samples; the window is 25 ms, the hop 10 ms
FRAME_S = HOP / RATE_HZ
BLANK = 0


def log_mel(samples: Floats) -> Floats:
    """samples: float32 (t,), mono at RATE_HZ. Returns features (frames, MELS), with mean 0 and deviation 1 per band."""
    padded = np.pad(samples.astype(np.float32), (0, max(0, WINDOW - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * _window(), FFT)).astype(np.float32) ** 2
    loud = np.log(power @ _filters() + 1e-6)
    found: Floats = ((loud - loud.mean(axis=0)) / (loud.std(axis=0) + 0.1)).astype(np.float32)
    return found


@cache
def _window() -> Floats:
    return np.hanning(WINDOW).astype(np.float32)


@cache
def _filters() -> Floats:
    """Triangular filters of equal width on the mel scale (Davis and Mermelstein, 1980), shape (FFT / 2 + 1, MELS)."""
    edges = np.linspace(_mel(60.0), _mel(RATE_HZ / 2), MELS + 2)
    at = 700 * (10 ** (edges / 2595) - 1) / RATE_HZ * FFT
    bins = np.arange(FFT // 2 + 1)[:, None]
    up, down = (bins - at[:-2]) / (at[1:-1] - at[:-2]), (at[2:] - bins) / (at[2:] - at[1:-1])
    return np.maximum(0, np.minimum(up, down)).astype(np.float32)


def _mel(hz: float) -> float:
    return float(2595 * np.log10(1 + hz / 700))


@dataclass(frozen=True, slots=True)
class Heard:
    """A word or part of a word. start_s: start of its first frame. end_s: end of its last frame. probability: mean over its
    frames."""

    text: str
    start_s: float
    end_s: float
    probability: float


def best_path(probabilities: Floats, vocabulary: Sequence[str], frame_s: float, blank: int = BLANK) -> list[Heard]:
    """Greedy CTC decoding (Graves et al., 2006): merges repeats and drops blanks. probabilities: (frames, tokens)."""
    best = probabilities.argmax(axis=1)
    changes = np.flatnonzero(np.diff(best, prepend=-1))
    ends = np.append(changes[1:], len(best))
    return [
        Heard(
            vocabulary[int(best[start])],
            start * frame_s,
            end * frame_s,
            float(probabilities[start:end, best[start]].mean()),
        )
        for start, end in zip(changes.tolist(), ends.tolist(), strict=True)
        if best[start] != blank
    ]


def pad(features: Sequence[Floats]) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Features padded to the longest row, (n, frames, MELS), and the length of each row in frames."""
    lengths = np.array([len(row) for row in features], np.int64)
    out = np.zeros((len(features), int(lengths.max()), MELS), np.float32)
    for at, row in enumerate(features):
        out[at, : len(row)] = row
    return out, lengths
