"""Where the servers of the running stack are, for commands and for the processes that they start."""

from __future__ import annotations

from infra.local import run_state
from infra.settings import StackSettings
from streams.kafka.config import KafkaAddress
from streams.schema_registry import Registry


def addresses(settings: StackSettings) -> tuple[KafkaAddress, Registry]:
    """Broker and schema registry: those that the settings name, else those that `up` started. Raises NotUp where there are none."""
    if settings.bootstrap and settings.registry:
        return KafkaAddress(bootstrap=settings.bootstrap), Registry(settings.registry)
    running = run_state.require(settings.run_folder)
    return KafkaAddress(bootstrap=running.bootstrap), Registry(running.registry)


def mlflow_address(settings: StackSettings) -> str:
    """The MLflow server that the settings name, else the one that `up` started; empty where there is none."""
    named = settings.mlflow if settings.mlflow not in (None, "local") else run_state.read(settings.run_folder).mlflow
    return named or ""


def environment(settings: StackSettings) -> dict[str, str]:
    """The variables that tell a command of another package where the servers are. Raises NotUp."""
    address, _ = addresses(settings)
    return {
        "MILLRACE_BOOTSTRAP": address.bootstrap,
        "MILLRACE_REGISTRY": settings.registry or run_state.read(settings.run_folder).registry,
        "MILLRACE_MLFLOW": mlflow_address(settings),
    }
