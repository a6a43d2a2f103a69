"""A model version is a folder: weights, config, signature, card, and a manifest with a digest of each file.

A file is loaded only if the manifest names it and its digest matches, and only if its format cannot run code: no pickle, no
Python. The sha256 of the manifest is the version's digest; `model-updates-v1` announces it.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import ModelRefused

MANIFEST = "manifest.json"
ALLOWED = {".safetensors", ".onnx", ".json", ".md", ".png", ".txt", ".faiss"}
MAX_FILE_BYTES = 20 * 1024**3
ONNX_TABLE = "onnx-table"  # the network of a bare ONNX file
SHIPPED = Path(__file__).parents[1] / "shipped"
SHIPPED_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class ModelFolder:
    """A folder of which every file was checked. coverage: the categories or classes that the model was trained to predict.

    huggingface: whether it has the Hugging Face layout. Then it has no manifest, and its digest is computed over its files.
    """

    path: Path
    name: str
    version: str
    digest: str
    config: dict[str, Any]
    signature: dict[str, Any]
    huggingface: bool = False

    @property
    def coverage(self) -> tuple[str, ...]:
        return tuple(self.config.get("coverage", ()))

    @property
    def of_others(self) -> bool:
        """Whether others made it, so that its own name is not that of a model here: it may answer under any name."""
        return self.huggingface or self.config.get("network") == ONNX_TABLE or "package" in self.config


def open_folder(path: Path, digest: str | None = None) -> ModelFolder:
    """Check every file and read the config and the signature. Raises ModelRefused with the file and the reason."""
    manifest_file = path / MANIFEST
    if not manifest_file.is_file():
        raise ModelRefused(f"{path} has no {MANIFEST}: it is not a model folder, or it was not written whole")
    raw = manifest_file.read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if digest is not None and digest != found:
        raise ModelRefused(f"{manifest_file} has sha256 {found}; {digest} was announced")
    manifest = read_fields(manifest_file, raw)
    files = manifest.get("files")
    if not isinstance(files, dict) or not files:
        raise ModelRefused(f"{manifest_file} names no files")
    for name, expected in files.items():
        _check_file(path, name, expected)
    strangers = {file.name for file in path.iterdir()} - files.keys() - {MANIFEST}
    if strangers:
        raise ModelRefused(f"{path} holds what its manifest does not name: {', '.join(sorted(strangers))}")
    return ModelFolder(
        path=path,
        name=str(manifest["name"]),
        version=str(manifest["version"]),
        digest=found,
        config=read_fields(path / "config.json"),
        signature=read_fields(path / "signature.json"),
    )


def open_onnx_file(file: Path, digest: str | None = None) -> ModelFolder:
    """A bare ONNX file as a model: its digest is the file's sha256, and `config["file"]` its name. Raises ModelRefused."""
    try:
        found = sha256_of(file)
    except OSError as error:
        raise ModelRefused(f"{file} cannot be read: {error.strerror}") from error
    if digest is not None and digest != found:
        raise ModelRefused(f"{file} has sha256 {found}; {digest} was announced")
    config = {"network": ONNX_TABLE, "file": file.name}
    return ModelFolder(file.parent, file.stem, found[:12], found, config, signature={})


def _check_file(path: Path, name: str, expected: str) -> None:
    file = path / name
    if Path(name).name != name or file.is_symlink():
        raise ModelRefused(f"{name!r} leads out of {path}")
    if file.suffix not in ALLOWED:
        raise ModelRefused(f"{file} is of a kind that is never loaded; allowed are {', '.join(sorted(ALLOWED))}")
    if not file.is_file():
        raise ModelRefused(f"{file} is missing: the folder was not written whole")
    if file.stat().st_size > MAX_FILE_BYTES:
        raise ModelRefused(f"{file} is larger than {MAX_FILE_BYTES} bytes")
    found = sha256_of(file)
    if found != expected:
        raise ModelRefused(f"{file} has sha256 {found}; the manifest says {expected}: it was changed or cut")


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Fields(dict[str, Any]):
    """An object of a JSON file. Asking for a key that it does not have raises ModelRefused with the file and the key."""

    def __init__(self, fields: dict[str, Any], file: Path) -> None:
        super().__init__(fields)
        self._file = file

    def __missing__(self, key: str) -> Any:
        raise ModelRefused(f"{self._file} has no {key!r}")


def read_fields(file: Path, raw: bytes | None = None) -> Fields:
    """The object that a JSON file holds, those within it too. raw: its content, if it was read. Raises ModelRefused."""
    try:
        read = json.loads(file.read_bytes() if raw is None else raw, object_hook=lambda fields: Fields(fields, file))
    except (OSError, ValueError) as error:
        raise ModelRefused(f"{file} cannot be read: {error}") from error
    if not isinstance(read, Fields):
        raise ModelRefused(f"{file} does not hold an object")
    return read


def write_manifest(path: Path, name: str, version: str) -> str:
    """Write the manifest, with the digest of every file, as the last step of writing a folder. Returns the version's digest."""
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(path.iterdir()) if file.name != MANIFEST}
    raw = json.dumps({"name": name, "version": version, "files": files}, indent=2).encode() + b"\n"
    (path / MANIFEST).write_bytes(raw)
    return hashlib.sha256(raw).hexdigest()
