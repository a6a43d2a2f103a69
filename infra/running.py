"""Addresses of the running servers, for commands and for the commands of other packages that they run."""

from __future__ import annotations

from infra.local import run_state
from infra.settings import StackSettings
from streams.kafka.config import KafkaAddress
from streams.schema_registry import Registry


def addresses(settings: StackSettings) -> tuple[KafkaAddress, Registry]:
    """Broker and schema registry: those in the settings, otherwise those that `up` started. Raises NotUp if neither exists."""
    if settings.bootstrap and settings.registry:
        return KafkaAddress(bootstrap=settings.bootstrap), Registry(settings.registry)
    running = run_state.require(settings.run_folder)
    return KafkaAddress(bootstrap=running.bootstrap), Registry(running.registry)


def mlflow_address(settings: StackSettings) -> str:
    """The MLflow server in the settings, otherwise the one that `up` started; empty if neither exists."""
    if settings.mlflow and settings.mlflow != "local":
        return settings.mlflow
    return run_state.read(settings.run_folder).mlflow


def command_environment(settings: StackSettings) -> dict[str, str]:
    """Environment variables for a command of another package: addresses only, because it reads everything else from its own
    settings.

    Processes of the stack get more of them, from `infra.local.loop_processes.process_environment`. Raises NotUp."""
    address, registry = addresses(settings)
    return {
        "MILLRACE_BOOTSTRAP": address.bootstrap,
        "MILLRACE_VECTORS": str(settings.vectors_folder),
        "MILLRACE_REGISTRY": registry.url,
        "MILLRACE_MLFLOW": mlflow_address(settings),
    }
