"""Hot swap on a real broker: a new version answers from known offsets; a bad one is refused and the old one stays."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inference_workers.models.folder import SHIPPED, open_folder, write_manifest
from inference_workers.served.batch_versions import in_share
from infra.settings import ROOT
from schemas.codec import Encoder
from schemas.generated import Challenger, ModelUpdate
from schemas.topics import MODEL_UPDATES, PREDICTION_LOG, SHADOW_RESULTS, SWAP_ACKS
from streams.clock import SystemClock
from streams.kafka.readback import records
from streams.kafka.sink import KafkaSink
from streams.rows import OutRecords
from tests.chaos.stage import Stage, staged
from tests.conftest import Servers
from tests.support.waiting import until

pytestmark = pytest.mark.real
LIVE = open_folder(SHIPPED / "moderation-text").version


def _version(folder: Path, number: str, **config: Any) -> Path:
    target = folder / f"v{number}"
    shutil.copytree(SHIPPED / "moderation-text", target)
    if config:
        found = json.loads((target / "config.json").read_text())
        (target / "config.json").write_text(json.dumps(found | config))
    write_manifest(target, "moderation-text", number)
    return target


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()


def _beside(arm: str, folder: Path, number: str, share: float) -> Challenger:
    return Challenger(arm=arm, version=number, uri=f"file:{folder}", digest=_digest(folder), share=share, salt="salt")


def _announce(stage: Stage, folder: Path, number: str, *challengers: Challenger) -> None:
    digest = _digest(folder)
    update = ModelUpdate(
        model="moderation-text",
        version=number,
        uri=f"file:{folder}",
        digest=digest,
        reason="test",
        actor="test",
        decided_ms=SystemClock().now_ms(),
        challengers=challengers,
    )
    value = Encoder.of(MODEL_UPDATES, stage.ids).encode_one(update)
    sink = KafkaSink(stage.address, None)
    sink.produce(OutRecords(MODEL_UPDATES.name, [b"moderation-text"], [value], [[]]))
    sink.flush(10)
    sink.close()


def _shadow_results(stage: Stage) -> list[dict[str, Any]]:
    return stage.written(SHADOW_RESULTS.name)


def _acks(stage: Stage) -> list[dict[str, Any]]:
    return stage.written(SWAP_ACKS.name)


def _answered_by(stage: Stage) -> dict[tuple[str, int, int], str]:
    return {
        (str(a["origin_topic"]), int(str(a["origin_partition"])), int(str(a["origin_offset"]))): a["models"][0]["version"]
        for a in stage.answers()
    }


def test_a_swap_is_acknowledged_with_the_offsets_it_answers_from(servers: Servers, tmp_path: Path) -> None:
    with staged(servers.bootstrap, servers.registry, tmp_path) as stage:
        worker = stage.worker()
        worker.wait_assigned()
        stage.text(*[f"old {i}" for i in range(40)])
        stage.wait_answered()
        _announce(stage, _version(tmp_path, "5"), "5")
        until(lambda: worker.said('"event": "swapped"'), 30, "swap")
        stage.text(*[f"new {i}" for i in range(40)])
        stage.wait_answered()
        assert stage.problems() == []
        by = _answered_by(stage)
        assert set(by.values()) == {LIVE, "5"}
        firsts = {
            (o["topic"], o["partition"]): o["offset"] for ack in _acks(stage) if ack["accepted"] for o in ack["first_offsets"]
        }
        for (topic, partition, offset), version in by.items():
            assert version == ("5" if offset >= firsts[topic, partition] else LIVE)

        broken = _version(tmp_path, "6")
        (broken / "model.onnx").write_bytes(b"cut")
        _announce(stage, broken, "6")
        until(lambda: any(not ack["accepted"] for ack in _acks(stage)), 30, "refusal")
        (refusal,) = [ack for ack in _acks(stage) if not ack["accepted"]]
        assert "changed or cut" in refusal["reason"]
        stage.text("still answered")
        stage.wait_answered()
        assert sorted(_answered_by(stage).values())[-1] == "5"

        worker.stop()
        stage.worker().wait_assigned()  # a new worker refuses it too, and answers with what answered
        before = set(_answered_by(stage))
        stage.text("answered after a restart")
        stage.wait_answered()
        assert {version for place, version in _answered_by(stage).items() if place not in before} == {"5"}
        _announce(stage, SHIPPED / "moderation-text", LIVE)


def _arms(stage: Stage) -> dict[str, str]:
    """By content id, the arm that answered its text."""
    return {str(a["content_id"]): a["models"][0]["arm"] for a in stage.answers()}


def test_a_canary_answers_its_share_of_the_keys_and_one_that_fails_costs_no_answer(servers: Servers, tmp_path: Path) -> None:
    live = SHIPPED / "moderation-text"
    with staged(servers.bootstrap, servers.registry, tmp_path) as stage:
        worker = stage.worker()
        worker.wait_assigned()
        _announce(stage, live, LIVE, _beside("canary", _version(tmp_path, "8"), "8", 0.3))
        until(lambda: worker.said('"arm": "canary"'), 30, "canary")
        stage.text(*[f"text {i}" for i in range(200)])
        stage.wait_answered()
        assert stage.problems() == []
        arms = _arms(stage)
        assert arms == {f"c-{i}": "canary" if in_share(str(i).encode(), "", 0.3, "salt") else "live" for i in range(200)}
        assert 30 <= list(arms.values()).count("canary") <= 90
        logged = {
            (one["version"], one["arm"])
            for one in records(stage.address, PREDICTION_LOG, stage.ids)
            if one["model"] == "moderation-text"
        }
        assert {("8", "canary"), (LIVE, "live")} <= logged
        assert _digest(live) in {one["digest"] for one in records(stage.address, PREDICTION_LOG, stage.ids)}
        assert {"canary"} == {ack["arm"] for ack in _acks(stage) if ack["version"] == "8"}

        faulty = _version(tmp_path, "9", thresholds={"spam": "not a number"})
        _announce(stage, live, LIVE, _beside("canary", faulty, "9", 0.5))
        until(lambda: sum(worker.said(f'"version": "{n}"') for n in "89") == 2, 30, "faulty canary")
        stage.text(*[f"more {i}" for i in range(100)])
        stage.wait_answered()
        assert stage.problems() == []
        assert stage.letters() == []
        arms = _arms(stage)
        assert {arms[f"c-{i}"] for i in range(200, 300)} == {"live"}
        (refusal,) = [ack for ack in _acks(stage) if ack["version"] == "9" and not ack["accepted"]]
        assert (refusal["arm"], "it failed on a batch that the live version answered" in refusal["reason"]) == ("canary", True)
        _announce(stage, live, LIVE)


def test_a_shadow_is_asked_in_secret(servers: Servers, tmp_path: Path) -> None:
    live = SHIPPED / "moderation-text"
    with staged(servers.bootstrap, servers.registry, tmp_path) as stage:
        worker = stage.worker()
        worker.wait_assigned()
        before = len(_shadow_results(stage))
        _announce(stage, live, LIVE, _beside("shadow", _version(tmp_path, "7", thresholds={"spam": 1e-9}), "7", 1.0))
        until(lambda: worker.said('"arm": "shadow"'), 30, "shadow")
        stage.text(*[f"see you at {i} then, bring the book" for i in range(60)])
        stage.wait_answered()
        assert stage.problems() == []
        assert set(_arms(stage).values()) == {"live"}
        assert not any(one["flagged"] for one in stage.answers())
        shadows = _shadow_results(stage)[before:]
        assert sorted(one["request_id"] for one in shadows) == sorted(str(one["request_id"]) for one in stage.answers())
        assert all(one["flagged"] for one in shadows)
        log = [one for one in records(stage.address, PREDICTION_LOG, stage.ids) if one["arm"] == "shadow"]
        assert sum(len(one["request_ids"]) for one in log) == 60
        _announce(stage, live, LIVE)


def test_what_a_version_answered_is_asked_again_offset_by_offset(servers: Servers, tmp_path: Path) -> None:
    with staged(servers.bootstrap, servers.registry, tmp_path) as stage:
        worker = stage.worker()
        worker.wait_assigned()
        stage.text(*[f"see you at {i} then" for i in range(20)])
        stage.wait_answered()
        bad = f"bad-{tmp_path.name}"
        _announce(stage, _version(tmp_path, bad, thresholds={"spam": 1e-9}), bad)
        until(lambda: worker.said(f'"version": "{bad}"'), 30, "swap to the bad version")
        stage.text(*[f"come at {i} then" for i in range(30)])
        stage.wait_answered()
        _announce(stage, SHIPPED / "moderation-text", LIVE)
        until(lambda: worker.said(f'"version": "{LIVE}", "previous": "{bad}"'), 30, "swap back")
        wrong = {str(a["request_id"]) for a in stage.answers() if a["models"][0]["version"] == bad}
        assert 0 < len(wrong) <= 30
        env = {
            **os.environ,
            "MILLRACE_BOOTSTRAP": servers.bootstrap,
            "MILLRACE_REGISTRY": servers.registry,
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "training_triggers", "rescore", "moderation-text", bad, "--json"]
        for redrive in (1, 2):
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=180, check=True)
            assert json.loads(done.stdout) == {
                "requests": len(wrong),
                "redrive": redrive,
                "topic": "content-v1-moderation-retry-1s",
            }
            until(lambda n=redrive: len([a for a in stage.answers() if a["redrive"] == n]) == len(wrong), 30, "new answers")  # type: ignore[misc]
            again = [a for a in stage.answers() if a["redrive"] == redrive]
            assert {str(a["request_id"]) for a in again} == wrong
            assert {(a["models"][0]["version"], a["flagged"]) for a in again} == {(LIVE, False)}
            assert {a["origin_topic"] for a in again} == {"content-v1"}
