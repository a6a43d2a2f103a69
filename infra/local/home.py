"""The folder that set-up and the stack write (MILLRACE_HOME): marked when it is first written to; only what is marked is removed.

Standard library only: set-up and `clean` run before there is an environment.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from infra.local import started
from schemas.errors import Stop

MARKER = ".millrace-home"
OURS = (
    "blobs",
    "drift-demo",
    "env",
    "flink-env",
    "jars",
    "lake",
    "monitor",
    "run",
    "runs",
    "uv",
)  # all that is ever written there


class NotOurs(Stop):
    code = "not-ours"


class StillRunning(Stop):
    code = "still-running"


def mark(home: Path) -> None:
    """Make the folder, and note what of others was there before. Raises NotOurs for a folder that must not be ours."""
    refuse_unfit(home)
    home.mkdir(parents=True, exist_ok=True)
    marker = home / MARKER
    if marker.exists():
        return
    earlier = (home / "env" / ".stamp").exists() and not (home / "env").is_symlink()  # of a version that did not mark its home
    before = [] if earlier else sorted(entry.name for entry in home.iterdir())
    about = "Millrace's folder. `./millrace clean` removes its own entries, and none of `before`, which were here first."
    marker.write_text(json.dumps({"about": about, "before": before}, indent=2) + "\n")


def refuse_unfit(home: Path) -> None:
    """Raises NotOurs for the root, a home folder, and a folder that holds one of them or the source."""
    here, source = home.resolve(), Path(__file__).resolve().parents[2]
    kept = [Path("/"), Path.home().resolve(), source]
    if any(here == folder or here in folder.parents for folder in kept):
        raise NotOurs(f"MILLRACE_HOME is {home}: name a folder of its own, for instance {source / '.millrace'}")


def running(home: Path) -> dict[int, str]:
    """Names by pid of what was started from this home and runs, its state file read or not; of inner homes too."""
    runs = [home / "run", *(folder / "run" for folder in home.glob("*") if (folder / MARKER).exists())]
    return {pid: name for run in runs for pid, name in (*_of_state(run / "state.json").items(), *started.of_folder(run).items())}


def _of_state(file: Path) -> dict[int, str]:
    """Of an earlier version's, too, whose processes bear no variable."""
    try:
        processes = json.loads(file.read_text())["processes"]
        return {one["pid"]: one["name"] for one in processes if _alive(one["pid"], one["born"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _alive(pid: int, born: str | float) -> bool:
    if isinstance(born, str):
        return bool(born) and started.birth(pid) == born
    return bool(started.birth_of_time(pid, born))


def entries(home: Path) -> list[Path]:
    """What `clean` removes. Raises NotOurs where the folder bears no marker, StillRunning with what runs."""
    refuse_unfit(home)
    try:
        before = set(json.loads((home / MARKER).read_text())["before"])
    except FileNotFoundError:
        raise NotOurs(
            f"{home} bears no marker of ours ({MARKER}), so nothing of it is removed: `./millrace setup` marks the folder that it "
            "writes; remove an older one by hand"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise NotOurs(f"{home / MARKER} cannot be read ({error}), so nothing of {home} is removed: remove it by hand") from error
    if found := running(home):
        names = ", ".join(f"{name} (pid {pid})" for pid, name in sorted(found.items()))
        raise StillRunning(f"{names} run from {home}: stop them with `./millrace down` first")
    return [home / name for name in OURS if name not in before and (home / name).is_symlink() | (home / name).exists()]


def remove(home: Path, chosen: list[Path]) -> None:
    """These entries and the marker; the folder itself where nothing else is in it. Links are removed, not what they name."""
    for entry in chosen:
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    (home / MARKER).unlink()
    if not any(home.iterdir()):
        home.rmdir()
