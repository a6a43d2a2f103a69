"""Models on a real MLflow server: registered with what was measured, promoted through the topic, the alias repaired."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference_workers.models.addresses import open_source
from inference_workers.models.folder import SHIPPED, write_manifest
from infra.local import mlflow, processes
from infra.settings import ROOT
from schemas.errors import ModelRefused
from tests.chaos.stage import staged
from tests.conftest import Servers
from tests.support.commands import command
from tests.support.waiting import until
from training_triggers import cli

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore")]
NAME = "translation-en-fr"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    started = mlflow.start_mlflow(folder / "home", folder / "mlflow.log")
    try:
        processes.wait_until(lambda: mlflow.answers(started.address), started, mlflow.START_LIMIT_S)
        yield started.address
    finally:
        processes.stop(started)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "candidate"
    shutil.copytree(SHIPPED / NAME, target)
    write_manifest(target, NAME, "2")
    return target


def address(servers: Servers, server: str) -> dict[str, str]:
    return {"MILLRACE_BOOTSTRAP": servers.bootstrap, "MILLRACE_REGISTRY": servers.registry, "MILLRACE_MLFLOW": server}


def models(servers: Servers, server: str, *words: str) -> subprocess.CompletedProcess[str]:
    return command(cli.main, *words, env=address(servers, server))


def as_a_process(servers: Servers, server: str, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **address(servers, server)}
    command = [str(ROOT / "millrace"), "models", *words]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=360, check=False)


def listed(servers: Servers, server: str) -> list[dict[str, Any]]:
    done = models(servers, server, "list", NAME, "--json")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_version_is_registered_promoted_loaded_and_rolled_back(
    servers: Servers, server: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = tmp_path / "figures.json"
    figures.write_text(json.dumps({"bleu": 46.0}))
    made = as_a_process(servers, server, "register", str(folder), "--metrics", str(figures), "--json")
    assert made.returncode == 0, made.stderr
    again = models(servers, server, "register", str(folder), "--json")
    assert json.loads(again.stdout)["number"] == json.loads(made.stdout)["number"] == "1"
    (version,) = listed(servers, server)
    assert (version["version"], version["champion"], version["metrics"]) == ("2", False, {"bleu": 46.0})

    monkeypatch.setenv("MILLRACE_MLFLOW", server)
    with pytest.raises(ModelRefused, match="champion"):
        open_source(f"models:/{NAME}@champion")
    assert open_source(f"models:/{NAME}/1").digest == version["digest"]
    # MLflow would import it for the headers of its requests; another test of this process may have.
    asked = f"from inference_workers.models.addresses import open_source; open_source('models:/{NAME}/1')"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", f"{asked}; import sys; assert 'feast' not in sys.modules"], env=env, check=True)

    with staged(servers.bootstrap, servers.registry, tmp_path) as stage:
        worker = stage.worker(tasks=("translation",))
        worker.wait_assigned()
        assert models(servers, server, "promote", NAME, "1", "--reason", "test").returncode == 0
        until(lambda: worker.said('"event": "swapped"'), 30, "swap")
        assert as_a_process(servers, server, "reconcile").returncode == 0
        assert listed(servers, server)[0]["champion"] is True
        assert open_source(f"models:/{NAME}@champion").version == "2"

        assert models(servers, server, "rollback", NAME, "--reason", "test").returncode == 0
        until(lambda: worker.said('"version": "1", "previous": "2"'), 30, "swap back")
        assert as_a_process(servers, server, "reconcile").returncode == 0
        assert listed(servers, server)[0]["champion"] is False  # what answers is shipped, not registered

    kept = Path(version["uri"].removeprefix("file://")) / "encoder.onnx"
    raw = bytearray(kept.read_bytes())
    raw[1000] ^= 1
    kept.write_bytes(raw)
    with pytest.raises(ModelRefused, match="changed or cut"):
        open_source(f"models:/{NAME}/1")
    refused = models(servers, server, "promote", NAME, "1", "--reason", "test")
    assert refused.returncode == 1 and "changed or cut" in refused.stderr
    assert f"has no version models:/{NAME}/7" in models(servers, server, "promote", NAME, "7", "--reason", "test").stderr
