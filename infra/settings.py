"""Settings of the local stack and the command line, read once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from streams.process.settings import setting

ROOT = Path(__file__).parents[1]
FOLLOWED = "tasks.toml"  # in the run folder: the declared tasks that processes follow


@dataclass(frozen=True)
class StackSettings:
    home: str = setting(str(ROOT / ".millrace"), "folder that set-up and the stack write to")
    bootstrap: str | None = setting(None, "address of a running Kafka broker; none is started then")
    registry: str | None = setting(None, "address of a running schema registry; none is started then")
    processes: str = setting(
        "moderation vision+translation+transcription policy+decisions",
        "processes that `up` starts: one per word, + joins tasks into one",
    )
    workers: int = setting(1, "copies of each worker process", 1, 64)
    blobs: str | None = setting(
        None, "root of claim checks: file:///folder or s3://bucket/prefix; a folder in MILLRACE_HOME if not set"
    )
    mlflow: str | None = setting(None, "address of a running MLflow server, or `local` to start one")
    chat_model: str = setting("package:smollm2-135m-instruct", "address of the model that answers chats")
    redis: str | None = setting(None, "address of a running Redis server; none is started then")
    monitor: bool = setting(True, "whether `up` and `demo` start the monitor")
    vectors: str | None = setting(None, "folder of the vectors of embedding tasks; a folder in MILLRACE_HOME if not set")
    connect: str | None = setting(None, "address of a running Kafka Connect, shown by the monitor")
    declarations: str = setting(str(ROOT / "millrace.toml"), "file that declares tasks; a missing file declares none")
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
    def vectors_folder(self) -> Path:
        return Path(self.vectors).resolve() if self.vectors else self.home_folder.resolve() / "vectors"

    @property
    def jars(self) -> Path:
        return self.home_folder / "jars"

    @property
    def run_folder(self) -> Path:
        return self.home_folder / "run"
