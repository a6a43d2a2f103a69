"""Model folders: nothing is loaded that the manifest does not vouch for, and nothing that can run code."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from inference_workers.models.addresses import ModelAddress, open_source
from inference_workers.models.folder import SHIPPED, open_folder, write_manifest
from inference_workers.tasks.moderation import TASK
from schemas.errors import ModelRefused, RetryLater


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
    "uri",
    [
        "shipped:../x",
        "shipped:",
        "http://somewhere/model",
        "moderation-text",
        "models:/m",
        "models:/@a",
        "hf:",
        "file:",
        "folder:",
        "package:",
        "package:../x",
        "package:a/b",
        "mlflow:",
        "mlflow:/m@a",
        "mlflow:file:x",
        "mlflow:mlflow:models:/m/3",
        "s3://",
        "s3://bucket",
        "s3://bucket/",
        "s3:/bucket/x",
        "s3://Bucket/x",
        "s3://bucket/a/../b",
        "s3://bucket/x?versionId=1",
    ],
)
def test_sources_of_other_kinds_are_refused(uri: str) -> None:
    with pytest.raises(ModelRefused):
        ModelAddress.parse(uri)


@pytest.mark.parametrize(
    "text",
    [
        "shipped:moderation-text",
        "package:efficientnet-lite0",
        "file:/models/a b",
        "hf:org/name",
        "models:/m@champion",
        "models:/m/3",
        "s3://bucket/models/m 3",
    ],
)
def test_an_address_is_written_as_it_is_read(text: str) -> None:
    assert str(ModelAddress.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "usual"),
    [
        ("folder:/models/a", "file:/models/a"),
        ("mlflow:models:/m@champion", "models:/m@champion"),
        ("mlflow:models:/m/3", "models:/m/3"),
        ("s3://bucket/models/", "s3://bucket/models"),
    ],
)
def test_another_spelling_is_the_same_address(text: str, usual: str) -> None:
    assert ModelAddress.parse(text) == ModelAddress.parse(usual)
    assert str(ModelAddress.parse(text)) == usual


def test_a_path_is_a_folder_in_either_form_or_an_onnx_file(folder: Path) -> None:
    assert open_source(f"folder:{folder}") == open_source(f"file:{folder}") == open_folder(folder)
    found = open_source(f"file:{folder / 'model.onnx'}")
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    assert (found.digest, found.version, found.name, found.of_others) == (digest, digest[:12], "model", True)
    assert found.config == {"network": "onnx-table", "file": "model.onnx"}
    assert found.path / found.config["file"] == folder / "model.onnx"
    with pytest.raises(ModelRefused, match="was announced"):
        open_source(f"file:{folder / 'model.onnx'}", "0" * 64)
    with pytest.raises(ModelRefused, match="no manifest"):
        open_source(f"file:{folder / 'none.onnx'}")


def _cached(cache: Path) -> None:
    """A checkpoint as the hub's client keeps it."""
    snapshot = cache / "models--org--known" / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps({"id2label": {"0": "a"}}))
    save_file({"weight": np.ones(4, np.float32)}, snapshot / "model.safetensors")
    (cache / "models--org--known" / "refs").mkdir()
    (cache / "models--org--known" / "refs" / "main").write_text("c0ffee")


def test_a_hub_that_does_not_answer_is_asked_later_unless_its_model_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked: list[bool] = []

    def snapshot(name: str, local_files_only: bool = False, **options: Any) -> str:
        asked.append(local_files_only)
        if not local_files_only:
            assert options["etag_timeout"] <= 10
            raise ConnectionError("no route to the hub")
        return str(hub._snapshot_download.snapshot_download(name, cache_dir=tmp_path, local_files_only=True))

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    _cached(tmp_path)
    assert open_source("hf:org/known").coverage == ("a",)
    assert asked == [False, True]
    with pytest.raises(RetryLater, match="hf:org/unknown: the hub does not answer, and this machine has no copy"):
        open_source("hf:org/unknown")
