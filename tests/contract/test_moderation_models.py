"""Moderation with the models out of packages: drawn pictures are judged by their text, and a blank one by nothing.

The packages are taken from MILLRACE_HOME, or fetched to a folder of the test; without their registries the tests are skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from inference_workers.models.packages import folder_of
from inference_workers.task import Versions, loaded
from inference_workers.tasks.moderation import TASK
from infra.settings import ROOT, StackSettings
from streams.process.settings import load
from tests.support import media
from tests.support.judges import NSFW, OCR, item, part_of, verdicts

PACKAGES = {OCR: "ppocr-v4", NSFW: "nsfw-mobilenet-v2"}
SPAM = "Free prize! Call now to claim your cash reward"
HATEFUL = "I hate all women, they are stupid whores"
FETCH_LIMIT_S = 120


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    missing = [name for name in PACKAGES.values() if not folder_of(name).is_dir()]
    with pytest.MonkeyPatch.context() as patch:
        if missing:
            _fetch(PACKAGES.values(), tmp_path_factory.mktemp("home"), patch)
        yield


def _fetch(names: Any, home: Path, patch: pytest.MonkeyPatch) -> None:
    kept = load(StackSettings, os.environ).home_folder.resolve() / "uv"
    if kept.exists():
        (home / "uv").symlink_to(kept)
    patch.setenv("MILLRACE_HOME", str(home))
    for name in names:
        done = subprocess.run(
            [sys.executable, "-m", "inference_workers", "fetch", name],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=FETCH_LIMIT_S,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"{name} cannot be fetched: {done.stderr.strip()[-300:]}")


@pytest.fixture(scope="module")
def by(home: None) -> Versions:
    sources = {**TASK.models, **{model: f"package:{name}" for model, name in PACKAGES.items()}}
    return {model: loaded(TASK, model, source) for model, source in sources.items()}


def drawn(*lines: str) -> dict[str, Any]:
    picture = Image.new("RGB", (900, 200), "white")
    for number, line in enumerate(lines):
        ImageDraw.Draw(picture).text((30, 30 + 70 * number), line, "black", ImageFont.load_default(28))
    return media.inline(media.encoded(picture))


def test_pictures_are_flagged_by_the_text_in_them_and_a_blank_one_is_not(by: Versions) -> None:
    spam, hateful, both, blank = verdicts(
        [
            item(0, "look at this", [drawn(), drawn(SPAM)]),
            item(1, None, [drawn(HATEFUL)]),
            item(2, None, [drawn(SPAM, HATEFUL)]),
            item(3, None, [drawn()]),
        ],
        by,
    )
    assert (spam["flagged"], spam["deciding"]["part"], spam["deciding"]["category"]) == (True, "text in image 2", "spam")
    assert (hateful["flagged"], hateful["deciding"]["part"]) == (True, "text in image 1")
    assert hateful["deciding"]["category"] == "hate_speech"
    assert (both["flagged"], both["deciding"]["part"]) == (True, "text in image 1")
    assert not blank["flagged"]
    assert [part["part"] for part in blank["parts"]] == ["image 1"]


def test_without_the_reader_none_of_them_is_judged_by_its_text(by: Versions) -> None:
    without = {model: version for model, version in by.items() if model in TASK.models}
    (hateful,) = verdicts([item(0, None, [drawn(HATEFUL)])], without)
    assert not hateful["flagged"]
    assert "hate_speech" in hateful["not_covered"]


def test_sexual_content_of_pictures_is_covered_and_harmless_ones_are_not_flagged(by: Versions) -> None:
    found = verdicts([item(0, None, [drawn(), media.inline(media.noise())])], by)
    (judged,) = [one for one in found[0]["categories"] if one["category"] == "sexual_content" and not one["flagged"]]
    assert judged["part"].startswith("image")
    assert "sexual_content" not in part_of(found[0], "image 2")["not_covered"]
