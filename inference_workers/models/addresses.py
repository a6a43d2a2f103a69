"""Where a version comes from: shipped with the repository, a folder, the MLflow registry, or the Hugging Face hub."""

from __future__ import annotations

from inference_workers.models.checkpoint import open_checkpoint
from inference_workers.models.folder import ModelFolder, open_folder, resolve
from schemas.errors import ModelRefused


def open_source(uri: str, digest: str | None = None) -> ModelFolder:
    """`shipped:NAME`, `file:PATH`, `models:/NAME@alias`, `models:/NAME/version`, `hf:ID`. Raises ModelRefused, and RetryLater where a
    registry does not answer."""
    if uri.startswith("models:/"):
        from inference_workers.models.mlflow_reader import located  # mlflow: seconds to import

        path, expected = located(uri, digest)
        return open_folder(path, digest or expected)
    if uri.startswith("hf:"):
        folder = open_checkpoint(uri.removeprefix("hf:"))
        if digest is not None and folder.digest != digest:
            raise ModelRefused(f"{uri} has digest {folder.digest}; {digest} was announced")
        return folder
    return open_folder(resolve(uri), digest)
