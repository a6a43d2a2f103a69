"""The MLflow registry, as trainers and promotion use it: versions with metrics, curve, signature and digest; aliases.

This is the only module of the package that imports mlflow. The registry describes; `model-updates-v1` decides: the alias
`champion` is a projection of the topic that `reconcile` repairs.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from inference_workers.models.folder import ModelFolder, open_folder
from inference_workers.models.mlflow_client import client
from schemas.errors import BadSettings, BrokerUnavailable

logging.getLogger("mlflow").setLevel(logging.WARNING)

CHAMPION = "champion"
EXPERIMENT = "millrace"


@dataclass(frozen=True)
class Registered:
    """One version. number: MLflow's; version: ours, which workers name in results."""

    name: str
    number: str
    version: str
    uri: str
    digest: str
    champion: bool
    created_ms: int
    metrics: Mapping[str, float]


class ModelRegistry:
    """Raises BrokerUnavailable if the server does not answer, BadSettings if no server is configured."""

    def __init__(self, address: str) -> None:
        if not address:
            raise BadSettings("MILLRACE_MLFLOW names no MLflow server: set its address, or `local` and run `./millrace up`")
        self._address = address
        self._client = client(address)

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except MlflowException as error:
            raise BrokerUnavailable(f"the MLflow server at {self._address} says: {error}") from error

    def register(self, path: Path, metrics: Mapping[str, float], losses: Sequence[float] = ()) -> Registered:
        """Record a run (config, metrics, curve, card) and register the folder as a version. The run keeps a copy of the folder,
        since a server accepts no folder stored elsewhere.

        Raises ModelRefused if the folder is incomplete. Registering the same folder twice gives one version."""
        folder = open_folder(path.resolve())
        with self._asked():
            for found in self.versions(folder.name):
                if found.digest == folder.digest:
                    return found
            run_id, source = self._run(folder, metrics, losses)
            try:
                self._client.create_registered_model(folder.name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            made = self._client.create_model_version(
                folder.name,
                source=source,
                run_id=run_id,
                tags={"digest": folder.digest, "version": folder.version, "coverage": ", ".join(folder.coverage)},
            )
        return Registered(
            folder.name,
            str(made.version),
            folder.version,
            source,
            folder.digest,
            False,
            int(made.creation_timestamp),
            metrics,
        )

    def _run(self, folder: ModelFolder, metrics: Mapping[str, float], losses: Sequence[float]) -> tuple[str, str]:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found else self._client.create_experiment(EXPERIMENT)
        run = self._client.create_run(
            experiment, run_name=f"{folder.name} {folder.version}", tags={"digest": folder.digest, "code": code_version()}
        )
        run_id = str(run.info.run_id)
        for name, value in folder.config.items():
            self._client.log_param(run_id, name, json.dumps(value)[:500])
        measured = [Metric(name, float(value), int(run.info.start_time), 0) for name, value in metrics.items()]
        curve = [Metric("training_loss", float(loss), int(run.info.start_time), step) for step, loss in enumerate(losses, 1)]
        for at in range(0, len(measured) + len(curve), 500):
            self._client.log_batch(run_id, metrics=[*measured, *curve][at : at + 500])
        self._client.log_artifacts(run_id, str(folder.path), "model")
        with tempfile.TemporaryDirectory() as scratch:
            picture = Path(scratch) / "curve.png"
            _draw(picture, folder, metrics, losses)
            self._client.log_artifact(run_id, str(picture))
        with contextlib.redirect_stdout(io.StringIO()):  # mlflow prints a link to the run
            self._client.set_terminated(run_id)
        return run_id, f"{run.info.artifact_uri}/model"

    def versions(self, name: str) -> list[Registered]:
        """Newest first; empty if the name is unknown."""
        with self._asked():
            found = self._client.search_model_versions(f"name='{name}'")
            champion = self._champion(name)
            return [
                Registered(
                    name,
                    str(one.version),
                    one.tags.get("version", ""),
                    one.source or "",
                    one.tags.get("digest", ""),
                    str(one.version) == champion,
                    int(one.creation_timestamp),
                    self._metrics(one.run_id),
                )
                for one in sorted(found, key=lambda one: -int(one.version))
            ]

    def names(self) -> list[str]:
        with self._asked():
            return sorted(model.name for model in self._client.search_registered_models())

    def _metrics(self, run_id: str | None) -> dict[str, float]:
        if not run_id:
            return {}
        try:
            return dict(self._client.get_run(run_id).data.metrics)
        except MlflowException:
            return {}

    def _champion(self, name: str) -> str | None:
        try:
            return str(self._client.get_model_version_by_alias(name, CHAMPION).version)
        except MlflowException:
            return None

    def set_champion(self, name: str, number: str | None) -> None:
        """Move the alias to this version; None removes the alias: the live version is not registered."""
        with self._asked():
            if number is None:
                self._client.delete_registered_model_alias(name, CHAMPION)
            else:
                self._client.set_registered_model_alias(name, CHAMPION, number)


def code_version() -> str:
    """The commit of this checkout, with + if files differ from it; empty if it is not a checkout."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except OSError:  # no git
        return ""
    return found.stdout.strip()


def _draw(file: Path, folder: ModelFolder, metrics: Mapping[str, float], losses: Sequence[float]) -> None:
    """Draw the training curve if there is one, else the metrics as bars."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.5), layout="constrained")
    if losses:
        axes.plot(range(1, len(losses) + 1), losses, marker="o")
        axes.set(xlabel="epoch", ylabel="mean training loss", title=f"{folder.name} {folder.version}")
    else:
        names = list(metrics)[:20]
        axes.barh(names, [metrics[name] for name in names])
        axes.set(title=f"{folder.name} {folder.version}", xlabel="value")
    figure.savefig(file, dpi=100)
    pyplot.close(figure)
