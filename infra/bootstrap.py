"""Creates the private Python environment from `uv.lock`. Standard library only: it runs before anything is installed.

`python -m infra.bootstrap ROOT STAMP "GROUPS"`; called by `./millrace`.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

from infra.local.home import mark
from schemas.errors import Stop

UV_VERSION = "0.13.9"
STACK_DOWNLOAD_MB = 204  # Kafka's jars and the registry, which the commands that need them download later
STACK_DISK_MB = 215
STACK_MEMORY_MB = 1_900
LIMIT_S = 1_800


def main() -> int:
    try:
        return _set_up(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].split())
    except Stop as error:
        print(f"{error.code}: {error}", file=sys.stderr)
    except OSError as error:
        print(f"Set-up cannot write: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 1


def _set_up(root: Path, stamp: Path, groups: list[str]) -> int:
    home = stamp.parent.parent
    existing = _groups(root / "uv.lock")
    if unknown := sorted(set(groups) - set(existing)):
        print(f"There is no part {', '.join(unknown)} to set up; the parts are {', '.join(existing)}.", file=sys.stderr)
        return 1
    download_mb, packages = _size(root / "uv.lock", groups)
    stack = "" if groups else f" + {STACK_DOWNLOAD_MB} MB for Kafka and the schema registry"
    free_gb = shutil.disk_usage(root).free / 1e9
    need_gb = (download_mb * 3.2 + STACK_DISK_MB) / 1000
    print(f"Setting up Millrace in {home} ({platform.system()} {platform.machine()}, Python {platform.python_version()})")
    print(f"  download  at most {download_mb:.0f} MB in {packages} packages{stack}; cached packages are not downloaded again")
    print(f"  disk      about {need_gb:.1f} GB, {free_gb:.0f} GB free")
    print(f"  memory    about {STACK_MEMORY_MB / 1000:.1f} GB while the stack runs")
    if free_gb < need_gb * 1.1:
        print(f"Not enough space on the disk of {root}: {need_gb:.1f} GB are needed, {free_gb:.1f} GB are free.", file=sys.stderr)
        return 1
    mark(home)
    begun = time.perf_counter()
    uv = _uv(home)
    command = [uv, "sync", "--frozen", "--inexact", "--project", str(root), "--python", sys.executable]
    for group in groups:
        command += ["--group", group]
    if not sys.stderr.isatty():
        command.append("--quiet")
    code = _run(command, {"UV_PROJECT_ENVIRONMENT": str(home / "env")})
    if code != 0:
        print(
            "The packages could not be installed; uv's output is above. Set-up needs a network: behind a proxy set HTTPS_PROXY "
            "(and SSL_CERT_FILE for its certificate), then run the same command again.",
            file=sys.stderr,
        )
        return 1
    print(f"  ✓ environment  {time.perf_counter() - begun:.1f} s")
    return 0


def _run(command: list[str], env: dict[str, str]) -> int:
    try:
        return subprocess.run(command, env={**os.environ, **env}, timeout=LIMIT_S, check=False).returncode
    except subprocess.TimeoutExpired:
        print(f"{command[0]} did not finish within {LIMIT_S} s and was stopped", file=sys.stderr)
        return 1


def _uv(home: Path) -> str:
    """uv from the PATH, or a copy in the home folder."""
    installed = shutil.which("uv")
    if installed:
        return installed
    own = home / "uv"
    if not (own / "bin" / "uv").exists():
        print(f"  downloading uv {UV_VERSION} to {own}")
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--root-user-action=ignore",
            "--target",
            str(own),
        ]
        if _run([*pip, f"uv=={UV_VERSION}"], {}) != 0:
            sys.exit(
                "pip could not download uv; its output is above. Set-up needs a network: behind a proxy set HTTPS_PROXY. If uv "
                "is on the PATH, pip is not needed. Then run the same command again."
            )
    return str(own / "bin" / "uv")


def _groups(lock: Path) -> list[str]:
    """Names of the optional parts."""
    packages = tomllib.loads(lock.read_text())["package"]
    return sorted(next(package for package in packages if package["name"] == "millrace").get("dev-dependencies", {}))


def _size(lock: Path, groups: list[str]) -> tuple[float, int]:
    """Upper bound of the download in megabytes, and the number of packages, for the core and these groups."""
    packages = {package["name"]: package for package in tomllib.loads(lock.read_text())["package"]}
    root = packages["millrace"]
    to_visit = [dep["name"] for dep in root["dependencies"]]
    for group in groups:
        to_visit += [dep["name"] for dep in root.get("dev-dependencies", {}).get(group, [])]
    seen: set[str] = set()
    while to_visit:
        name = to_visit.pop()
        if name in seen or name not in packages:
            continue
        seen.add(name)
        to_visit += [dep["name"] for dep in packages[name].get("dependencies", [])]
    return sum(_wheel_bytes(packages[name]) for name in seen) / 1e6, len(seen)


def _wheel_bytes(package: dict[str, Any]) -> int:
    """Size of the wheel for this Python on Linux x86-64, or of the one for every platform."""
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    sizes = [0]
    for wheel in package.get("wheels", []):
        name = wheel["url"].rpartition("/")[2]
        fits = "x86_64" in name and "manylinux" in name and any(python in name for python in (tag, "abi3", "py3-none"))
        if fits or "none-any" in name:
            sizes.append(wheel.get("size", 0))
    return max(sizes)


if __name__ == "__main__":
    sys.exit(main())
