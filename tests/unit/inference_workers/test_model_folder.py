"""Model folders: nothing is loaded that the manifest does not vouch for, and nothing that can run code."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from inference_workers.models.addresses import ModelAddress
from inference_workers.models.folder import SHIPPED, open_folder, write_manifest
from inference_workers.tasks.moderation import TASK
from schemas.errors import ModelRefused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy = tmp_path / "model"
    shutil.copytree(SHIPPED / "moderation-text", copy)
    return copy


def test_the_shipped_folder_is_whole(folder: Path) -> None:
    found = open_folder(folder)
    assert found.name == "moderation-text"
    assert "spam" in found.coverage
    assert "misinformation" not in found.coverage


def _flip(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[1000] ^= 1
    (folder / "model.onnx").write_bytes(data)


def _pickle(folder: Path) -> None:
    (folder / "weights.pkl").write_bytes(pickle.dumps(Path("canary")))
    write_manifest(folder, "moderation-text", "1")


def _stranger(folder: Path) -> None:
    (folder / "extra.json").write_text("{}")


def _half(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _link(folder: Path) -> None:
    (folder / "config.json").rename(folder.parent / "config.json")
    (folder / "config.json").symlink_to(folder.parent / "config.json")


def _names_outside(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["../secret.json"] = "0"
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_flip, "changed or cut"),
        (_pickle, "never loaded"),
        (_stranger, "does not name"),
        (_half, "is missing"),
        (_no_manifest, "no manifest"),
        (_link, "leads out"),
        (_names_outside, "leads out"),
    ],
)
def test_a_harmed_folder_is_refused_with_the_file_and_the_reason(folder: Path, harm: Callable[[Path], None], words: str) -> None:
    harm(folder)
    with pytest.raises(ModelRefused, match=words):
        open_folder(folder)


def test_a_folder_of_another_digest_is_refused(folder: Path) -> None:
    with pytest.raises(ModelRefused, match="was announced"):
        open_folder(folder, "0" * 64)


def test_a_model_that_does_not_fit_the_task_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["coverage"] = [*config["coverage"], "violence"]
    (folder / "config.json").write_text(json.dumps(config))
    write_manifest(folder, "moderation-text", "1")
    with pytest.raises(ModelRefused, match="logits of shape"):
        TASK.load(open_folder(folder), "moderation-text")


def test_bytes_that_are_no_onnx_model_are_refused(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"not a model")
    write_manifest(folder, "moderation-text", "1")
    with pytest.raises(ModelRefused, match="not a model that ONNX Runtime can run"):
        TASK.load(open_folder(folder), "moderation-text")


@pytest.mark.parametrize(
    "uri", ["shipped:../x", "shipped:", "http://somewhere/model", "moderation-text", "models:/m", "models:/@a", "hf:", "file:"]
)
def test_sources_of_other_kinds_are_refused(uri: str) -> None:
    with pytest.raises(ModelRefused):
        ModelAddress.parse(uri)


@pytest.mark.parametrize(
    "text", ["shipped:moderation-text", "file:/models/a b", "hf:org/name", "models:/m@champion", "models:/m/3"]
)
def test_an_address_is_written_as_it_is_read(text: str) -> None:
    assert str(ModelAddress.parse(text)) == text
