"""Model folders: nothing is loaded that the manifest does not vouch for, and nothing that can run code."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from inference_workers.backends.choose import ocr_reader
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
    config["coverage"] = [*config["coverage"], "misinformation"]
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


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The hub's client with a cache in tmp_path. `answer` is what a question raises."""
    client = pytest.importorskip("huggingface_hub")
    original = client.snapshot_download

    def info(_api: Any, name: str, timeout: float) -> None:
        assert timeout <= 10
        raise client.answer

    def snapshot(name: str, local_files_only: bool = False, **options: Any) -> str:
        if not local_files_only:
            raise client.answer
        return str(original(name, cache_dir=tmp_path, local_files_only=True))

    monkeypatch.setattr(client, "answer", ConnectionError("no route to the hub"), raising=False)
    monkeypatch.setattr(client, "snapshot_download", snapshot)
    monkeypatch.setattr(client.HfApi, "model_info", info)
    _cached(tmp_path)
    return client


@pytest.mark.usefixtures("hub")
def test_a_hub_that_does_not_answer_is_asked_later_unless_its_model_is_here() -> None:
    assert open_source("hf:org/known").coverage == ("a",)
    with pytest.raises(RetryLater, match="hf:org/unknown: the hub does not answer, and this machine has no whole copy"):
        open_source("hf:org/unknown")


def test_a_model_that_the_hub_does_not_give_any_more_is_refused_although_a_copy_is_here(hub: Any) -> None:
    hub.answer = HubError(404)
    with pytest.raises(ModelRefused, match="nor a model that the Hugging Face hub gives"):
        open_source("hf:org/known")
    hub.answer = HubError(503)
    assert open_source("hf:org/known").coverage == ("a",)


class HubError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.response = SimpleNamespace(status_code=status)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("lost", ["config", "part", "part without an index", "weights"])
def test_a_copy_that_was_cut_is_no_answer(tmp_path: Path, lost: str) -> None:
    snapshot = tmp_path / "models--org--known" / "snapshots" / "c0ffee"
    match lost:
        case "config":
            (snapshot / "config.json").unlink()
        case "part":
            index = {"weight_map": {"weight": "model.safetensors", "bias": "more.safetensors"}}
            (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
        case "part without an index":
            (snapshot / "model.safetensors").rename(snapshot / "model-00002-of-00002.safetensors")
        case "weights":
            (snapshot / "model.safetensors").unlink()
    with pytest.raises(RetryLater, match="no whole copy"):
        open_source("hf:org/known")


@pytest.mark.parametrize("key", ["name", "version"])
def test_a_manifest_without_a_field_is_refused_by_file_and_key(tmp_path: Path, key: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(SHIPPED / "vision-digits", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest[key]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelRefused, match=rf"model/manifest.json has no '{key}'"):
        open_source(f"file:{folder}")


def test_a_config_without_a_field_is_refused_by_file_and_key_when_it_is_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"network": "pp-ocr", "boxes": {"pixel": 0.3}}))
    (folder / "signature.json").write_text("{}")
    write_manifest(folder, "model", "1")
    found = open_source(f"file:{folder}")
    with pytest.raises(ModelRefused, match=r"model/config.json has no 'enlarged'"):
        ocr_reader(found)
    with pytest.raises(ModelRefused, match=r"model/config.json has no 'growth'"):
        found.config["boxes"]["growth"]


@pytest.mark.parametrize("labels", [{"a": "first"}, ["first"], 3])
def test_labels_without_numbers_are_refused(tmp_path: Path, labels: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"id2label": labels}))
    save_file({"weight": np.ones(4, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelRefused, match=r"config\.json: id2label must have a number for each label"):
        open_source(f"file:{tmp_path}")
