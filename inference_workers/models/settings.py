"""Settings of processes that load model versions: the address of the registry, and the folder for fetched versions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from streams.process.settings import setting


@dataclass(frozen=True)
class ModelSettings:
    mlflow: str = setting("", "address of the MLflow registry; empty for none")
    home: str = setting(".millrace", "folder whose `models` keeps the versions that were fetched from registries and buckets")

    @property
    def cache(self) -> Path:
        return Path(self.home) / "models"

    @property
    def packages(self) -> Path:
        """Models made out of packages, a folder each."""
        return self.cache / "packages"

    @property
    def buckets(self) -> Path:
        """Copies of folders in S3 buckets, by digest."""
        return self.cache / "s3"
