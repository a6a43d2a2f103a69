"""Settings of the local stack and the command line, read once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from streams.process.settings import setting

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class StackSettings:
    home: str = setting(str(ROOT / ".millrace"), "folder of everything that set-up and the stack write")
    bootstrap: str | None = setting(None, "a Kafka broker that runs already; none is started then")
    registry: str | None = setting(None, "a schema registry that runs already; none is started then")
    processes: str = setting(
        "moderation vision+translation+transcription policy+decisions", "what `up` starts: one process a word, + joins tasks"
    )
    workers: int = setting(1, "copies of each worker process", 1, 64)
    blobs: str | None = setting(None, "root of claim checks: file:///folder or s3://bucket/prefix; a folder of ours if not set")
    mlflow: str | None = setting(None, "address of an MLflow server that runs already, or `local` to start one")
    redis: str | None = setting(None, "address of a Redis server that runs already; none is started then")
    monitor: bool = setting(True, "whether `up` and `demo` start the monitor")
    connect: str | None = setting(None, "address of a Kafka Connect that runs already, for the monitor")
    data: str = setting(str(ROOT.parent / "shared" / "data"), "folder of the public data sets, for training and model tests")

    @property
    def home_folder(self) -> Path:
        return Path(self.home)

    @property
    def blob_root(self) -> str:
        return self.blobs or (self.home_folder.resolve() / "blobs").as_uri()

    @property
    def lake(self) -> Path:
        return self.home_folder.resolve() / "lake"

    @property
    def jars(self) -> Path:
        return self.home_folder / "jars"

    @property
    def run_folder(self) -> Path:
        return self.home_folder / "run"
