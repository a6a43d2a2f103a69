"""`./millrace` itself: which parts of the environment each command has made, with a stub in the place of set-up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from infra.settings import ROOT

PARTS = (
    "chat",
    "dev",
    "features",
    "fetch",
    "huggingface",
    "mlflow",
    "monitor",
    "node",
    "recommendation",
    "retrain",
    "s3",
    "train",
    "tune",
    "vectors",
    "views",
)
STUB = """
import pathlib, sys
env = pathlib.Path(sys.argv[2]).parent
(env / "bin").mkdir(parents=True, exist_ok=True)
(env / "bin" / "python").write_text("#!/bin/sh\\n")
(env / "bin" / "python").chmod(0o755)
(env / "groups").write_text(sys.argv[3])
"""


@pytest.fixture
def door(tmp_path: Path) -> Path:
    (tmp_path / "infra").mkdir()
    (tmp_path / "infra" / "__init__.py").touch()
    (tmp_path / "infra" / "bootstrap.py").write_text(STUB)
    (tmp_path / "uv.lock").write_text("a lock")
    (tmp_path / "path").mkdir()
    for tool in ("python3.11", "python3.12", "python3"):
        (tmp_path / "path" / tool).write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (tmp_path / "path" / tool).chmod(0o755)
    shutil.copy(ROOT / "millrace", tmp_path)
    return tmp_path / "millrace"


def groups(door: Path, *words: str, node: bool) -> list[str]:
    """What set-up is asked for; node: whether the machine has one that is new enough."""
    tool = door.parent / "path" / "node"
    tool.write_text(f"#!/bin/sh\nexit {0 if node else 1}\n")
    tool.chmod(0o755)
    env = {"PATH": f"{door.parent / 'path'}:{os.environ['PATH']}", "HOME": os.environ["HOME"]}
    done = subprocess.run([door, *words], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return (door.parent / ".millrace" / "env" / "groups").read_text().split(" ")


@pytest.mark.parametrize("node", [True, False])
@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_set_up_by_its_name(door: Path, part: str, node: bool) -> None:
    assert groups(door, "setup", part, node=node) == sorted({"monitor", part} | ({"node"} if not node else set()))


def test_several_parts_and_options(door: Path) -> None:
    assert groups(door, "setup", "views", "s3", "views", "--help", node=True) == ["monitor", "s3", "views"]
    assert groups(door, "setup", node=False) == ["monitor", "node"]


def test_up_and_demo_need_what_they_are_asked_to_start(door: Path) -> None:
    assert groups(door, "up", "--no-monitor", node=True) == [""]
    assert groups(door, "up", "--with", "features", "--with", "training", node=False) == [
        "monitor",
        "node",
        "features",
        "retrain",
    ]


def test_chat_needs_its_packages_and_those_of_its_http_server(door: Path) -> None:
    assert groups(door, "up", "--with", "chat", node=True) == ["monitor", "chat"]
    assert groups(door, "up", "--with", "chat", "--no-monitor", node=True) == ["monitor", "chat"]
    assert groups(door, "serve", node=False) == ["monitor"]


@pytest.mark.parametrize("name", ["drift", "retraining"])
def test_benchmarks_of_retraining_have_its_packages(door: Path, name: str) -> None:
    assert groups(door, "bench", name, node=True) == ["retrain"]


def test_a_fetched_model_has_the_packages_of_its_conversion(door: Path) -> None:
    assert groups(door, "models", "fetch", node=False) == [""]
    assert groups(door, "models", "fetch", "minilm-l6-v2", node=False) == [""]
    assert groups(door, "models", "fetch", "efficientnet-lite0", node=False) == ["fetch"]
    assert groups(door, "models", "fetch", "nsfw-mobilenet-v2", node=False) == ["node", "retrain"]
    assert groups(door, "models", "fetch", "nsfw-mobilenet-v2", node=True) == ["retrain"]


def test_the_parts_are_those_of_the_project() -> None:
    assert sorted(tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]) == list(PARTS)


def test_a_part_that_is_none_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-P",
        "-m",
        "infra.bootstrap",
        str(ROOT),
        str(tmp_path / "home" / "env" / ".stamp"),
        "monitor faetures",
    ]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no part faetures" in done.stderr
    assert all(part in done.stderr for part in PARTS)
    assert not (tmp_path / "home").exists()


def test_set_up_refuses_a_home_folder_and_one_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for stamp, words in (
        (Path.home() / "env" / ".stamp", "not-ours"),
        (tmp_path / "file" / "home" / "env" / ".stamp", "cannot write"),
    ):
        command = [sys.executable, "-P", "-m", "infra.bootstrap", str(ROOT), str(stamp), "monitor"]
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
        assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (1, True, False), done.stderr


def test_compiled_modules_are_kept_in_the_private_folder_and_not_beside_sources(door: Path) -> None:
    source, env = door.parent / "infra", door.parent / ".millrace" / "env"
    (source / "__main__.py").write_text("import infra.part\n")
    (source / "part.py").touch()
    stub = STUB.replace("#!/bin/sh\\n", f'#!/bin/sh\\nexec {sys.executable} \\"$@\\"\\n')
    (source / "bootstrap.py").write_text(stub)
    given = {"PATH": f"{door.parent / 'path'}:{os.environ['PATH']}", "HOME": os.environ["HOME"], "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([door, "status"], env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kept = [file for file in (env / "pycache").rglob("part.*.pyc") if source.name in file.parts]
    assert len(kept) == 1
    assert not (source / "__pycache__").exists()
