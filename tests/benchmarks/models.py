"""`./millrace bench models`: a declared task of each kind through its topics, beside the bare loop of its model at the same batch size.

Fetched models: MiniLM (embedding), EfficientNet-Lite0 (pictures), PP-OCRv4 (text in pictures). The others have the size of a small
real model and random weights: what is compared is the way to the model, not what it answers.

Then what fetched models make of pictures, beside the code of their own packages (`pictures.py`), the word error rates of the
shipped transcription (`speech.py`), and text moderation beside its references (`moderation.py`).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from infra.provision import provision
from infra.settings import ROOT, StackSettings
from schemas import catalogue
from schemas.declared.declarations import Declaration, text_of
from schemas.declared.task_kinds import TaskKind
from schemas.errors import MillraceError
from streams.kafka.admin import KafkaAdmin
from streams.kafka.config import KafkaAddress
from streams.process.arguments import real, whole
from streams.process.settings import load
from streams.schema_registry import Registry
from tests.benchmarks import moderation, pictures, speech
from tests.benchmarks.tasks import bench
from tests.benchmarks.worker import report, say, servers

FETCHED = {
    TaskKind.EMBEDDING: "minilm-l6-v2",
    TaskKind.IMAGE_CLASSIFICATION: "efficientnet-lite0",
    TaskKind.OCR: "ppocr-v4",
}
COUNT = {
    TaskKind.TEXT_CLASSIFICATION: 1_500,
    TaskKind.TOKEN_CLASSIFICATION: 1_500,
    TaskKind.EMBEDDING: 1_500,
    TaskKind.IMAGE_CLASSIFICATION: 800,
    TaskKind.OCR: 120,
    TaskKind.TRANSCRIPTION: 600,
    TaskKind.TEXT_TO_TEXT: 400,
    TaskKind.TABULAR: 20_000,
}
SPEECH, MODERATION = "speech", "moderation"
PHOTOGRAPHS, DRAWN_TEXT = "photographs", "drawn-text"
COMPARED = {PHOTOGRAPHS: TaskKind.IMAGE_CLASSIFICATION, DRAWN_TEXT: TaskKind.OCR}
MODERATION_MODELS = ("minilm-l6-v2", "moderation-minilm")
SIZE: dict[str, Any] = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}


def declarations(folder: Path) -> list[Declaration]:
    """A task of each kind; models that are not fetched are made in the folder."""
    from tests.support import checkpoints  # importing transformers takes seconds

    made: dict[TaskKind, Callable[[Path], Any]] = {
        TaskKind.TEXT_CLASSIFICATION: partial(checkpoints.texts, **SIZE),
        TaskKind.TOKEN_CLASSIFICATION: partial(checkpoints.names, **SIZE),
        TaskKind.TRANSCRIPTION: checkpoints.transcription,
        TaskKind.TEXT_TO_TEXT: checkpoints.translation,
    }
    tasks = []
    for kind in TaskKind:
        place = folder / kind
        place.mkdir()
        if kind in FETCHED:
            address = f"package:{FETCHED[kind]}"
        elif kind is TaskKind.TABULAR:
            address = checkpoints.table(place, ("amount", "hour"))
        else:
            made[kind](place)
            address = f"folder:{place}"
        tasks.append(Declaration(name=f"bench-{kind}", kind=kind, model=address))
    return tasks


def fetch(names: list[str]) -> None:
    for name in names:
        done = subprocess.run(
            [sys.executable, "-m", "inference_workers", "fetch", name], cwd=ROOT, stdout=sys.stderr, check=False
        )
        if done.returncode != 0:
            raise SystemExit(f"{name} could not be fetched")


def main() -> None:
    parser = argparse.ArgumentParser(prog="./millrace bench models", description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=whole(), default=3)
    parser.add_argument("--seconds", type=real(above=True), default=5.0)
    parser.add_argument("--only", choices=[*(str(kind) for kind in TaskKind), PHOTOGRAPHS, DRAWN_TEXT, SPEECH, MODERATION])
    chosen = parser.parse_args()
    kinds = [kind for kind in TaskKind if chosen.only in (None, str(kind))]
    wanted = [FETCHED[kind] for kind in kinds if kind in FETCHED]
    wanted += [FETCHED[kind] for part, kind in COMPARED.items() if chosen.only == part]
    fetch(wanted)
    load_before, settings, left_out = os.getloadavg()[0], load(StackSettings, os.environ), list[str]()
    figures = through_topics(kinds, chosen.rounds, chosen.seconds, load_before) if kinds else []
    for part, measure in ((PHOTOGRAPHS, pictures.photographs), (DRAWN_TEXT, pictures.drawn_text)):
        if chosen.only in (None, part):
            try:
                figures += measure(settings)
            except MillraceError as error:
                left_out.append(f"{part}: {error}")
    if chosen.only in (None, SPEECH):
        try:
            figures += speech.figures(Path(settings.data), left_out)
        except MillraceError as error:
            left_out.append(f"{SPEECH}: {error}")
    if chosen.only in (None, MODERATION):
        try:
            fetch([*MODERATION_MODELS])
            figures += moderation.figures(Path(settings.data))
        except MillraceError as error:
            left_out.append(f"{MODERATION}: {error}")
    report("models", figures, load_before, chosen.json)
    if left_out:
        raise SystemExit("\n".join(f"not measured: {cause}" for cause in left_out))


def through_topics(kinds: list[TaskKind], rounds: int, seconds: float, load_before: float) -> list[dict[str, Any]]:
    figures: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, servers() as (bootstrap, registry):
        file = Path(folder) / "tasks.toml"
        file.write_text(text_of(declarations(Path(folder))))
        os.environ[catalogue.VARIABLE] = str(file)
        provision(KafkaAdmin(KafkaAddress(bootstrap=bootstrap)), Registry(registry))
        for kind in kinds:
            say(f"{kind}: {FETCHED.get(kind, 'random weights')}")
            figures += bench(bootstrap, registry, f"bench-{kind}", rounds, seconds, load_before, COUNT[kind])
    return figures


if __name__ == "__main__":
    main()
