"""The task of the benchmark: an MLP 32-256-256-2 on 32 floats, or a heavier one that takes about a millisecond per record.

The network is plain numpy on one thread, so that our loop and the references spend exactly the same on the model.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from inference_workers.media.reader import MediaReader
from inference_workers.models.folder import ModelFolder
from inference_workers.task import Prediction, Prepared, Use, Version, Versions
from processors.features.enrich import Need
from schemas import avro
from schemas.columns import Columns
from schemas.topic_kinds import Compatibility, Consumption, Guarantee, Topic
from tests.benchmarks.network import WIDTH, Mlp
from tests.support.fixed_models import FixedModels

avro.FOLDERS.append(Path(__file__).parent / "records")


@dataclass
class TensorRequest:
    RECORD: ClassVar[str] = "tensor-request"


@dataclass
class TensorResult:
    RECORD: ClassVar[str] = "tensor-result"


def topic(name: str, record: type[Any], partitions: int = 1) -> Topic[Any]:
    return Topic(
        name=name,
        record=record,
        key="name",
        partitions=partitions,
        retention_ms=-1,
        guarantee=Guarantee.EXACTLY_ONCE,
        compatibility=Compatibility.BACKWARD_TRANSITIVE,
        owner="tests",
        writers=("benchmark",),
        readers=("benchmark",),
    )


REQUESTS = topic("tensor-requests-v1", TensorRequest)
RESULTS = topic("tensor-results-v1", TensorResult)


class TensorTask:
    name = "tensor"
    results = RESULTS
    reads_media = False
    needs: Sequence[Need] = ()

    def __init__(self, group: str) -> None:
        self.models: Mapping[str, str] = {"mlp": "none"}
        self.consumption = Consumption(topic=REQUESTS, group=group, retry_delays_ms=(), results=RESULTS, key_field="name")

    def load(self, folder: ModelFolder, model: str) -> Mlp:
        return Mlp()

    def prepare(self, columns: Columns, versions: Versions, media: MediaReader) -> Prepared:
        return Prepared(columns.matrix("tensor", "<f4", WIDTH), {})  # type: ignore[arg-type]

    def predict(self, inputs: Any, versions: Versions) -> Prediction:
        version = versions["mlp"]
        begun_s = time.perf_counter()
        logits = version.backend.run({"tensor": inputs})["logits"].astype("<f4")
        compute_ms = (time.perf_counter() - begun_s) * 1000
        return Prediction({"logits": logits}, [Use(version, logits, compute_ms)])


def fixed(model: Mlp) -> FixedModels:
    """The task's model at one version."""
    return FixedModels({"mlp": Version(ModelFolder(Path("."), "mlp", "1", "", {}, {}), model)})
