"""Word error rates of the shipped transcription, for `./millrace bench models --only speech`: on recordings of a voice that was not in
its training, and on the voices of espeak-ng, which is synthetic speech.

espeak-ng (GPL-3.0) comes out of the PyPI package `espeakng-loader`, whose digest is checked. Only this benchmark loads it, by ctypes;
nothing of it is shipped.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inference_workers.backends.backend import Transcriber
from inference_workers.backends.choose import transcriber
from inference_workers.fetching.registries import unpacked
from inference_workers.media.sounds import resampled
from inference_workers.models.addresses import open_source
from inference_workers.models.packages import named
from infra.settings import ROOT
from schemas.errors import MillraceError
from tests.benchmarks.worker import figure, say
from training_triggers.trainers.transcription_digits import NAME, SHIPPED_WITHOUT
from training_triggers.trainers.transcription_digits_data import MEASURED_STRINGS, WORDS, Clips, edits, load, strings

Floats = npt.NDArray[np.float32]
Spoken = tuple[Floats, list[str]]  # samples at the model's rate, and words

ESPEAK = replace(
    named("minilm-l6-v2"),
    name="espeak-ng",
    what="synthetic speech",
    package="espeakng-loader",
    version="0.2.4",
    sha256="08721baf27d13d461f6be6eed9a65277e70d68234ff484fd8b9897b222cdcb6d",
    bytes=10_078_484,
    licence="GPL-3.0",
)
VOICES = ("en-us", "en-us+f2", "en-us+m3", "en", "en+f4", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-rp+f3")
STRINGS = 25  # of each voice
WORDS_A_MINUTE = 140
RETRIEVAL, UTF8 = 1, 1  # espeak_Initialize's output, espeak_Synth's flag
SYNTHESIS_LIMIT_S = 120.0


def figures(data: Path, left_out: list[str]) -> list[dict[str, Any]]:
    """left_out: gets what could not be measured, and why."""
    model = transcriber(open_source(f"shipped:{NAME}"))
    try:
        clips = load(data)
        single = [(samples, [WORDS[digit]]) for digit, of_digit in clips[SHIPPED_WITHOUT].items() for samples in of_digit]
        found = [
            rate(
                "single digits",
                model,
                single,
                f"fsdd, the {len(single)} recordings of {SHIPPED_WITHOUT}, who was not in training",
            ),
            rate("strings of digits", model, joined(clips), f"fsdd, clips of {SHIPPED_WITHOUT} joined to one to six digits"),
        ]
        with tempfile.TemporaryDirectory() as folder:
            try:
                synthetic = espeak(Path(folder), model.rate_hz)
            except (MillraceError, OSError, subprocess.SubprocessError) as error:
                left_out.append(f"espeak-ng's voices: {error}")
                return found
        everybody = [one for spoken in synthetic.values() for one in spoken]
        found.append(rate("espeak-ng", model, everybody, f"{len(VOICES)} English voices, one to six digits spoken fluently"))
        found += [rate(f"espeak-ng {voice}", model, spoken, "one voice") for voice, spoken in synthetic.items()]
        return found
    finally:
        model.close()


def joined(clips: Clips) -> list[Spoken]:
    return strings(clips, SHIPPED_WITHOUT, MEASURED_STRINGS)


def rate(name: str, model: Transcriber, spoken: Sequence[Spoken], what: str) -> dict[str, Any]:
    """The word error rate: substituted, left out and put in, over the words that were spoken."""
    heard = [[word.text for word in words] for samples, _ in spoken for words in model.transcribe([samples])]
    counts = np.array([edits(expected, words) for (_, expected), words in zip(spoken, heard, strict=True)])
    n_words = sum(len(expected) for _, expected in spoken)
    substituted, left_out, put_in = counts.sum(axis=0).tolist()
    right = float(np.mean([words == expected for (_, expected), words in zip(spoken, heard, strict=True)]))
    return figure(
        f"transcription, {name}",
        100 * float(counts.sum()) / n_words,
        "% words wrong",
        "printed",
        None,
        what=what,
        words=n_words,
        substituted=substituted,
        left_out=left_out,
        put_in=put_in,
        whole_right_percent=round(100 * right, 1),
    )


# --- espeak-ng ----------------------------------------------------------------------------------------------------


def espeak(folder: Path, rate_hz: int) -> dict[str, list[Spoken]]:
    """Strings of one to six digits by each voice. The library keeps global state and may crash, so it runs in a child process."""
    package = unpacked(ESPEAK, folder / "espeak", say) / "espeakng_loader"
    random = np.random.default_rng(7)
    texts = [[WORDS[digit] for digit in random.integers(0, 10, random.integers(1, 7))] for _ in range(STRINGS)]
    (folder / "wanted.json").write_text(json.dumps({"voices": VOICES, "texts": [" ".join(words) for words in texts]}))
    command = [sys.executable, "-m", "tests.benchmarks.speech", str(package), str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=SYNTHESIS_LIMIT_S)
    made = np.load(folder / "samples.npz")
    from_hz = int(made["rate_hz"])
    return {
        voice: [(resampled(made[f"{voice} {i}"], from_hz, rate_hz), words) for i, words in enumerate(texts)] for voice in VOICES
    }


def synthesise(package: Path, voices: Iterable[str], texts: Sequence[str]) -> tuple[int, dict[str, Floats]]:
    """The sample rate, and the samples of each text by each voice, float32 in -1 to 1, by "VOICE NUMBER"."""
    library = ctypes.CDLL(str(package / "libespeak-ng.so"))
    rate_hz = library.espeak_Initialize(RETRIEVAL, 0, str(package).encode(), 0)
    if rate_hz <= 0:
        raise OSError("espeak-ng does not start")
    parts: list[npt.NDArray[np.int16]] = []

    def take(samples: Any, n: int, _events: Any) -> int:
        if n > 0 and samples:
            parts.append(np.ctypeslib.as_array(samples, (n,)).copy())
        return 0

    called_back = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)(take)
    library.espeak_SetSynthCallback(called_back)
    found: dict[str, Floats] = {}
    for voice in voices:
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise OSError(f"espeak-ng has no voice {voice}")
        library.espeak_SetParameter(1, WORDS_A_MINUTE, 0)
        for number, text in enumerate(texts):
            raw = text.encode()
            parts.clear()
            library.espeak_Synth(raw, ctypes.c_size_t(len(raw) + 1), 0, 0, 0, UTF8, None, None)
            library.espeak_Synchronize()
            found[f"{voice} {number}"] = (np.concatenate(parts) / 32768).astype(np.float32)
    return rate_hz, found


def main(package: Path, folder: Path) -> None:
    wanted = json.loads((folder / "wanted.json").read_text())
    rate_hz, found = synthesise(package, wanted["voices"], wanted["texts"])
    np.savez(folder / "samples.npz", rate_hz=np.array(rate_hz), **found)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
