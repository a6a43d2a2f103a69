"""`python -m inference_workers convert NAME PACKAGE FOLDER`: the files of a package as a model folder. The child of `fetch.py`.

Each conversion writes the weights and their config; card, origin and manifest are written here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from inference_workers.fetching.converted import Convert
from inference_workers.models.folder import sha256_of, write_manifest
from inference_workers.models.packages import ORIGIN, Package, named
from schemas.errors import MillraceError, ModelRefused

# By the word in packages.toml, the module here whose `convert` does it. Its libraries are imported only where it is asked for.
CONVERSIONS = {
    "sentence-checkpoint": "sentence_checkpoint",
    "efficientnet-lite0": "efficientnet_weights",
    "pp-ocr": "ocr_weights",
    "nsfw-mobilenet-v2": "nsfw_weights",
    "gguf-chat": "gguf_weights",
    "moderation-minilm": "moderation_minilm",
}


def main(words: Sequence[str]) -> int:
    name, source, made = words
    try:
        write(named(name), Path(source), Path(made))
    except (MillraceError, ImportError) as error:
        print(f"{error}", file=sys.stderr)
        return 1
    return 0


def write(package: Package, source: Path, made: Path) -> None:
    """Write the whole folder. Raises ModelRefused if the package does not hold what is expected of it."""
    made.mkdir()
    converted = conversion(package.conversion)(source, made)
    (made / "card.md").write_text(card(package, converted.notes))
    if converted.config is None:  # a layout without a manifest
        _write_json(made / ORIGIN, {**package.origin, "files": {file.name: sha256_of(file) for file in sorted(made.iterdir())}})
    else:
        _write_json(made / ORIGIN, package.origin)
        _write_json(made / "config.json", {**converted.config, "package": str(package)})
        _write_json(made / "signature.json", converted.signature)
        write_manifest(made, package.name, package.version)
    for file in made.iterdir():
        file.chmod(0o644)


def _write_json(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def conversion(kind: str) -> Convert:
    """Raises ModelRefused if there is none of this kind."""
    if kind not in CONVERSIONS:
        raise ModelRefused(f"packages.toml names a conversion {kind!r}; there are {', '.join(CONVERSIONS)}")
    convert: Convert = import_module(f"inference_workers.fetching.{CONVERSIONS[kind]}").convert
    return convert


def card(package: Package, notes: Sequence[str]) -> str:
    more = "".join(f"\n{note}\n" for note in notes)
    return f"""# {package.name}

{package.what[0].upper()}{package.what[1:]}. Made by others; Millrace has not trained it.

| | |
|---|---|
| source | {package.registry} package `{package.package}` {package.version}, sha256 of the archive `{package.sha256}` |
| licence | {package.licence} |
| good at | {package.well} |
| bad at | {package.badly} |

## Use

{package.use}

## How it was made

`./millrace models fetch {package.name}`.
{more}"""
