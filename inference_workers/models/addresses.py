"""The address of a model version, and its folder: shipped with the repository, a local folder, or from MLflow or Hugging Face."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from inference_workers.models.checkpoint import open_checkpoint
from inference_workers.models.folder import SHIPPED, SHIPPED_NAME, ModelFolder, open_folder
from schemas.errors import ModelRefused


class Scheme(StrEnum):
    SHIPPED = "shipped"
    FILE = "file"
    HUGGING_FACE = "hf"
    MLFLOW = "models"


@dataclass(frozen=True, slots=True)
class ModelAddress:
    """`shipped:NAME`, `file:PATH`, `hf:ID`, `models:/NAME@ALIAS` or `models:/NAME/VERSION`. name: the part after the scheme,
    without an alias or a version. alias, version: in the MLflow registry; empty otherwise."""

    scheme: Scheme
    name: str
    alias: str = ""
    version: str = ""

    @classmethod
    def parse(cls, text: str) -> ModelAddress:
        """Raises ModelRefused if the text is not an address."""
        scheme, _, rest = text.partition(":")
        match scheme:
            case Scheme.SHIPPED if SHIPPED_NAME.fullmatch(rest):
                return cls(Scheme.SHIPPED, rest)
            case Scheme.FILE if rest:
                return cls(Scheme.FILE, rest)
            case Scheme.HUGGING_FACE if rest:
                return cls(Scheme.HUGGING_FACE, rest)
            case Scheme.MLFLOW if rest.startswith("/"):
                name, at, alias = rest[1:].partition("@")
                if at and name and alias:
                    return cls(Scheme.MLFLOW, name, alias=alias)
                name, _, version = rest[1:].partition("/")
                if name and version:
                    return cls(Scheme.MLFLOW, name, version=version)
        raise ModelRefused(
            f"{text!r} is not the address of a model: use shipped:NAME, file:PATH, hf:ID, models:/NAME@ALIAS or models:/NAME/VERSION"
        )

    def __str__(self) -> str:
        if self.scheme is Scheme.MLFLOW:
            return f"models:/{self.name}@{self.alias}" if self.alias else f"models:/{self.name}/{self.version}"
        return f"{self.scheme}:{self.name}"

    def local_folder(self) -> Path | None:
        """The folder of the files on this machine; None for a version in a registry or a hub."""
        match self.scheme:
            case Scheme.SHIPPED:
                return SHIPPED / self.name
            case Scheme.FILE:
                return Path(self.name)
        return None


def open_source(text: str, digest: str | None = None) -> ModelFolder:
    """The checked folder of an address. digest: the expected digest, if it is known. Raises ModelRefused, and RetryLater if a
    registry does not answer."""
    address = ModelAddress.parse(text)
    folder = address.local_folder()
    if folder is not None:
        return open_folder(folder, digest)
    if address.scheme is Scheme.HUGGING_FACE:
        checkpoint = open_checkpoint(address.name)
        if digest is not None and checkpoint.digest != digest:
            raise ModelRefused(f"{text} has digest {checkpoint.digest}; {digest} was announced")
        return checkpoint
    from inference_workers.models.mlflow_reader import located  # importing mlflow takes seconds

    path, registered = located(address.name, address.alias, address.version, digest)
    return open_folder(path, digest or registered)
