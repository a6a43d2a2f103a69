"""Hot swap on a real broker: a new version answers from known offsets; a bad one is refused and the old one stays."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from inference_workers.networks.folder import SHIPPED, write_manifest
from schemas.codec import Encoder, read_any
from schemas.generated import ModelUpdate
from schemas.topics import MODEL_UPDATES, SWAP_ACKS
from streams.clock import SystemClock
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.sink import KafkaSink
from streams.rows import OutRecords
from tests.chaos.stage import Stage, staged, until
from tests.conftest import Servers

pytestmark = pytest.mark.real


def _version(folder: Path, number: str) -> Path:
    target = folder / f"v{number}"
    shutil.copytree(SHIPPED / "moderation-text", target)
    write_manifest(target, "moderation-text", number)
    return target


def _announce(stage: Stage, folder: Path, number: str) -> None:
    digest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    update = ModelUpdate(
        model="moderation-text", version=number, uri=f"file:{folder}", digest=digest, reason="test", actor="test",
        decided_ms=SystemClock().now_ms(),
    )  # fmt: skip
    value = Encoder("model-update", MODEL_UPDATES.subject, stage.ids).encode_one(update)
    sink = KafkaSink(stage.address, None)
    sink.produce(OutRecords(MODEL_UPDATES.name, [b"moderation-text"], [value], [[]]))
    sink.flush(10)
    sink.close()


def _acks(stage: Stage) -> list[dict[str, Any]]:
    reader = KafkaBroadcast(stage.address, SWAP_ACKS.name, SystemClock())
    polled = reader.read_to_end(10)
    reader.close()
    return [read_any(value, stage.ids) for value in polled.values]


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
        _announce(stage, _version(tmp_path, "2"), "2")
        until(lambda: worker.said('"event": "swapped"'), 30, "swap")
        stage.text(*[f"new {i}" for i in range(40)])
        stage.wait_answered()
        assert stage.problems() == []
        by = _answered_by(stage)
        assert set(by.values()) == {"1", "2"}
        firsts = {
            (o["topic"], o["partition"]): o["offset"] for ack in _acks(stage) if ack["accepted"] for o in ack["first_offsets"]
        }
        for (topic, partition, offset), version in by.items():
            assert version == ("2" if offset >= firsts[topic, partition] else "1")

        broken = _version(tmp_path, "3")
        (broken / "model.onnx").write_bytes(b"cut")
        _announce(stage, broken, "3")
        until(lambda: any(not ack["accepted"] for ack in _acks(stage)), 30, "refusal")
        (refusal,) = [ack for ack in _acks(stage) if not ack["accepted"]]
        assert "changed or cut" in refusal["reason"]
        stage.text("still answered")
        stage.wait_answered()
        assert sorted(_answered_by(stage).values())[-1] == "2"

        worker.stop()
        stage.worker().wait_assigned()  # a new worker refuses it too, and falls back to what is shipped
        stage.text("answered after a restart")
        stage.wait_answered()
        _announce(stage, SHIPPED / "moderation-text", "1")
