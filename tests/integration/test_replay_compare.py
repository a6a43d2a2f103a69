"""Recorded requests answered again on a real broker: the same version says what it said, a worse one does not pass."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference_workers.models.folder import SHIPPED, write_manifest
from infra.settings import ROOT
from schemas.codec import Encoder, read_any
from schemas.generated import Label
from schemas.topics import LABELS, PREDICTION_LOG
from streams.clock import SystemClock
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.sink import KafkaSink
from streams.rows import OutRecords
from tests.chaos.stage import Stage, staged
from tests.conftest import Servers

pytestmark = pytest.mark.real
TEXTS = [
    f"see you at {i} then, bring the book" if i % 2 else f"WIN a FREE prize now, call 090{i} to claim cash" for i in range(130)
]


def version(folder: Path, number: str, **thresholds: float) -> Path:
    """The shipped text model under another number, with other thresholds."""
    target = folder / f"v{number}"
    shutil.copytree(SHIPPED / "moderation-text", target)
    config = json.loads((target / "config.json").read_text())
    config["thresholds"] |= thresholds
    (target / "config.json").write_text(json.dumps(config))
    write_manifest(target, "moderation-text", number)
    return target


def compare(servers: Servers, *words: str) -> tuple[int, dict[str, Any] | str]:
    env = {**os.environ, "MILLRACE_BOOTSTRAP": servers.bootstrap, "MILLRACE_REGISTRY": servers.registry, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "training_triggers", "replay-compare", "moderation-text", *words, "--json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=360, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout.startswith("{") else done.stderr


def logged(servers: Servers, stage: Stage, since_ms: int) -> dict[str, list[float]]:
    reader, found = KafkaBroadcast(servers.address, PREDICTION_LOG.name, SystemClock()), dict[str, list[float]]()
    for value in reader.read_to_end(30).values:
        record = read_any(value, stage.ids)
        if record["model"] == "moderation-text" and record["started_ms"] >= since_ms:
            outputs = np.frombuffer(record["outputs"], record["outputs_dtype"]).reshape(record["outputs_shape"])
            found |= dict(zip(record["request_ids"], outputs.tolist(), strict=True))
    reader.close()
    return found


def label(stage: Stage, answers: list[dict[str, Any]]) -> None:
    """As if whoever labels were of the champion's mind."""
    encoder, sink = Encoder.of(LABELS, stage.ids), KafkaSink(stage.address, None)
    for answer in answers:
        truth = {one["category"]: one["flagged"] for one in answer["categories"]}
        made = Label(request_id=answer["request_id"], source="test", task="moderation", truth=truth, labelled_ms=1)
        sink.produce(OutRecords(LABELS.name, [made.request_id.encode()], [encoder.encode_one(made)], [[]]))
    sink.flush(20)
    sink.close()


def test_the_same_version_says_the_same_and_a_worse_one_does_not_pass(servers: Servers, tmp_path: Path) -> None:
    begun_ms = int(time.time() * 1000)
    begun = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(begun_ms / 1000))
    with staged(servers.bootstrap, servers.registry, tmp_path) as stage:
        stage.worker(MILLRACE_MODELS="moderation-text=shipped:moderation-text").wait_assigned()
        stage.text(*TEXTS)
        stage.wait_answered()
        answers = stage.answers()
        code, same = compare(servers, "--candidate", str(version(tmp_path, "twin")), "--from", begun)
        assert isinstance(same, dict), same
        assert same["entries"] >= len(TEXTS)
        assert (code, same["reasons"], same["agreement"], same["changed"], same["accuracy"]) == (0, [], 1.0, [], None)
        assert same["size_ratio"] == pytest.approx(1.0, abs=0.01)

        label(stage, answers)
        code, same = compare(servers, "--candidate", str(tmp_path / "vtwin"), "--from", begun)
        assert isinstance(same, dict)
        assert (code, same["accuracy"]["champion"], same["accuracy"]["candidate"]) == (0, 1.0, 1.0)
        assert same["accuracy"]["labelled"] == len(TEXTS)

        code, worse = compare(servers, "--candidate", str(version(tmp_path, "worse", spam=1e-9)), "--from", begun)
        assert isinstance(worse, dict)
        assert (code, worse["passes"]) == (1, False)
        assert any("it may be worse" in reason for reason in worse["reasons"])
        assert worse["changed"][0][2] == "spam"

        code, said = compare(servers, "--candidate", str(SHIPPED / "vision-digits"), "--from", begun)
        assert (code, "is a version of vision-digits" in str(said)) == (1, True)


def test_a_replay_gives_the_outputs_that_were_logged(servers: Servers, tmp_path: Path) -> None:
    begun_ms = int(time.time() * 1000)
    with staged(servers.bootstrap, servers.registry, tmp_path) as stage:
        stage.worker().wait_assigned()
        stage.text(*TEXTS[:60])
        stage.wait_answered()
        then = logged(servers, stage, begun_ms)
        env = {
            **os.environ,
            "MILLRACE_BOOTSTRAP": servers.bootstrap,
            "MILLRACE_REGISTRY": servers.registry,
            "PYTHONPATH": str(ROOT),
        }
        command = [
            sys.executable,
            "-m",
            "inference_workers",
            "replay",
            "--model",
            "moderation-text",
            "--source",
            "shipped:moderation-text",
            "--from-ms",
            str(begun_ms - 1),
            "--out",
            str(tmp_path / "again"),
        ]
        subprocess.run(command, env=env, check=True, timeout=180)
        with np.load(tmp_path / "again" / "0.npz") as again:
            found = dict(zip(again["request_ids"].tolist(), again["outputs"].tolist(), strict=True))
        stage.text(*(["later"] * 8_000))
        command[-4:] = ["--window", str(tmp_path / "again" / "window.json"), "--out", str(tmp_path / "rebuilt")]
        subprocess.run(command, env=env, check=True, timeout=180)
        with np.load(tmp_path / "rebuilt" / "0.npz") as rebuilt:
            assert sorted(rebuilt["request_ids"].tolist()) == sorted(found), (
                "a window is fixed by its offsets, whatever came since"
            )
    assert set(then) == set(found)
    for request_id, outputs in then.items():
        assert found[request_id] == pytest.approx(outputs, abs=1e-5), (
            "batches differ, and batches of other sizes differ in the last bits"
        )
