"""The folder that set-up and the stack write to (MILLRACE_HOME): marked at the first write; only a marked folder is ever removed.

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
    "models",
    "monitor",
    "peers",
    "run",
    "runs",
    "uv",
    "vectors",
)  # every entry that is ever written there


class NotOurs(Stop):
    code = "not-ours"


class StillRunning(Stop):
    code = "still-running"


def mark(home: Path) -> None:
    """Create the folder and record which entries were there before. Raises NotOurs for a folder that must not be used."""
    refuse_unfit(home)
    home.mkdir(parents=True, exist_ok=True)
    marker = home / MARKER
    if marker.exists():
        return
    earlier = (home / "env" / ".stamp").exists() and not (home / "env").is_symlink()  # an earlier version wrote no marker
    before = [] if earlier else sorted(entry.name for entry in home.iterdir())
    about = "Millrace's folder. `./millrace clean` removes its own entries, but not those in `before`: they were here first."
    marker.write_text(json.dumps({"about": about, "before": before}, indent=2) + "\n")


def refuse_unfit(home: Path) -> None:
    """Raises NotOurs for /, the user's home folder, the source folder, and any folder that contains one of them."""
    here, source = home.resolve(), Path(__file__).resolve().parents[2]
    kept = [Path("/"), Path.home().resolve(), source]
    if any(here == folder or here in folder.parents for folder in kept):
        raise NotOurs(
            f"MILLRACE_HOME is {home}, which must not be used: set it to a folder for Millrace alone, for instance {source / '.millrace'}"
        )


def running(home: Path) -> dict[int, str]:
    """Names by pid of the running processes that this home and homes inside it started, even if the state file cannot be read."""
    runs = [home / "run", *(folder / "run" for folder in home.glob("*") if (folder / MARKER).exists())]
    return {pid: name for run in runs for pid, name in (*_of_state(run / "state.json").items(), *started.of_folder(run).items())}


def _of_state(file: Path) -> dict[int, str]:
    """By the state file: processes of earlier versions do not carry the variable."""
    try:
        processes = json.loads(file.read_text())["processes"]
        return {process["pid"]: process["name"] for process in processes if _alive(process["pid"], process["born"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _alive(pid: int, born: str | float) -> bool:
    if isinstance(born, str):
        return bool(born) and started.birth(pid) == born
    return bool(started.birth_of_time(pid, born))


def entries(home: Path) -> list[Path]:
    """The entries that `clean` removes. Raises NotOurs if the folder has no marker, StillRunning with the running processes."""
    refuse_unfit(home)
    try:
        before = set(json.loads((home / MARKER).read_text())["before"])
    except FileNotFoundError:
        raise NotOurs(
            f"{home} has no marker file {MARKER}, so nothing in it is removed. `./millrace setup` marks the folder that it writes to; "
            "delete the folder of an older version by hand"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise NotOurs(f"{home / MARKER} cannot be read ({error}), so nothing in {home} is removed: delete it by hand") from error
    if names_by_pid := running(home):
        names = ", ".join(f"{name} (pid {pid})" for pid, name in sorted(names_by_pid.items()))
        raise StillRunning(f"these processes still run from {home}: {names}. Stop them with `./millrace down` first")
    return [home / name for name in OURS if name not in before and (home / name).is_symlink() | (home / name).exists()]


def remove(home: Path, chosen: list[Path]) -> None:
    """Remove these entries and the marker, and the folder if it is empty then. Links are removed, not their targets."""
    for entry in chosen:
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    (home / MARKER).unlink()
    if not any(home.iterdir()):
        home.rmdir()
