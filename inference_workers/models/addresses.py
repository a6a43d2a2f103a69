"""The address of a model version, and its folder: shipped, local, made out of a package, or from MLflow, Hugging Face or a bucket."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from inference_workers.models.checkpoint import open_checkpoint
from inference_workers.models.folder import MANIFEST, SHIPPED, SHIPPED_NAME, ModelFolder, open_folder, open_onnx_file
from inference_workers.models.packages import fetched_folder
from inference_workers.models.unshipped import UNSHIPPED
from schemas.errors import ModelRefused

FORMS = (
    "shipped:NAME, package:NAME, file:PATH or folder:PATH, hf:ID, models:/NAME@ALIAS, models:/NAME/VERSION (mlflow: may stand "
    "before them) or s3://BUCKET/PREFIX"
)
_BUCKET = re.compile(r"//[a-z0-9][a-z0-9.-]{1,62}/[^?#]+")


class Scheme(StrEnum):
    SHIPPED = "shipped"
    PACKAGE = "package"
    FILE = "file"
    HUGGING_FACE = "hf"
    MLFLOW = "models"
    S3 = "s3"


SPELLINGS = {"folder": Scheme.FILE.value}  # other words for a scheme


@dataclass(frozen=True, slots=True)
class ModelAddress:
    """`shipped:NAME`, `package:NAME`, `file:PATH`, `hf:ID`, `models:/NAME@ALIAS`, `models:/NAME/VERSION` or `s3://BUCKET/PREFIX`.
    name: the part after the scheme, without an alias or a version. alias, version: in the MLflow registry; empty otherwise."""

    scheme: Scheme
    name: str
    alias: str = ""
    version: str = ""

    @classmethod
    def parse(cls, text: str) -> ModelAddress:
        """Raises ModelRefused if the text is not an address."""
        word, _, rest = text.removeprefix("mlflow:").partition(":")
        scheme = SPELLINGS.get(word, word)
        if text.startswith("mlflow:") and scheme != Scheme.MLFLOW:
            scheme = ""
        match scheme:
            case Scheme.SHIPPED | Scheme.PACKAGE if SHIPPED_NAME.fullmatch(rest):
                return cls(Scheme(scheme), rest)
            case Scheme.FILE | Scheme.HUGGING_FACE if rest:
                return cls(Scheme(scheme), rest)
            case Scheme.S3 if _BUCKET.fullmatch(rest) and ".." not in rest.split("/"):
                return cls(Scheme.S3, rest.rstrip("/"))
            case Scheme.MLFLOW if rest.startswith("/"):
                name, at, alias = rest[1:].partition("@")
                if at and name and alias:
                    return cls(Scheme.MLFLOW, name, alias=alias)
                name, _, version = rest[1:].partition("/")
                if name and version:
                    return cls(Scheme.MLFLOW, name, version=version)
        raise ModelRefused(f"{text!r} is not the address of a model: use {FORMS}")

    def __str__(self) -> str:
        if self.scheme is Scheme.MLFLOW:
            return f"models:/{self.name}@{self.alias}" if self.alias else f"models:/{self.name}/{self.version}"
        return f"{self.scheme}:{self.name}"


def open_for(model: str, text: str, digest: str | None = None) -> ModelFolder:
    """The checked folder of an address, under the name that a task has for the model. For a model of a shipped task, a folder that was
    written for another one is refused; a declared task takes any. Raises ModelRefused, and RetryLater if a registry does not answer."""
    folder = open_source(text, digest)
    shipped = {path.name for path in SHIPPED.iterdir()}
    is_declared = model not in shipped and model not in UNSHIPPED
    if not folder.of_others and not is_declared and folder.name != model and {folder.name, model} & shipped:
        raise ModelRefused(f"{text} is a version of {folder.name}, not of {model}")
    return replace(folder, name=model)


def open_source(text: str, digest: str | None = None) -> ModelFolder:
    """The checked folder of an address. digest: the expected digest, if it is known. Raises ModelRefused, and RetryLater if a
    registry, a hub or a store does not answer."""
    address = ModelAddress.parse(text)
    match address.scheme:
        case Scheme.SHIPPED:
            return open_folder(SHIPPED / address.name, digest)
        case Scheme.FILE:
            return open_local(Path(address.name), digest)
        case Scheme.PACKAGE:
            return replace(open_local(fetched_folder(address.name), digest), name=address.name)
        case Scheme.HUGGING_FACE:
            return _checked(open_checkpoint(address.name), text, digest)
        case Scheme.S3:
            from inference_workers.models.bucket_reader import downloaded  # importing the store's client takes a second

            found = downloaded(str(address), digest, open_local)
            return replace(found, name=text) if found.huggingface else found
    from inference_workers.models.mlflow_reader import located  # importing mlflow takes seconds

    path, registered = located(address.name, address.alias, address.version, digest)
    return open_folder(path, digest or registered)


def open_tokenizer(text: str) -> ModelFolder:
    """As `open_source`, but for the weights of a checkpoint, which are neither fetched nor read. Raises ModelRefused, RetryLater."""
    address = ModelAddress.parse(text)
    match address.scheme:
        case Scheme.FILE | Scheme.HUGGING_FACE:
            return open_checkpoint(address.name, weights=False)
        case Scheme.PACKAGE:
            return replace(open_checkpoint(str(fetched_folder(address.name)), weights=False), name=address.name)
    raise ModelRefused(f"{text!r}: a tokenizer is opened by file:PATH, hf:ID or package:NAME")


def open_local(path: Path, digest: str | None = None) -> ModelFolder:
    """A folder in this project's form or in the Hugging Face layout, or a bare ONNX file. Raises ModelRefused."""
    if path.suffix == ".onnx" and path.is_file():
        return open_onnx_file(path, digest)
    is_checkpoint = not (path / MANIFEST).exists() and (path / "config.json").is_file()
    return _checked(open_checkpoint(str(path)), str(path), digest) if is_checkpoint else open_folder(path, digest)


def _checked(checkpoint: ModelFolder, text: str, digest: str | None) -> ModelFolder:
    if digest is not None and checkpoint.digest != digest:
        raise ModelRefused(f"{text} has digest {checkpoint.digest}; {digest} was announced")
    return checkpoint
