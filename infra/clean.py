"""`./millrace clean`, without an environment: it asks, then removes what set-up and the stack wrote, while nothing of it runs.

Standard library only; the door runs it with the machine's Python, so that there is one way, whatever became of the environment.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from infra.local import home, run_state
from schemas.errors import Stop

ROOT = Path(__file__).resolve().parents[1]


def main(words: list[str]) -> int:
    """0 where it was removed, or where there is nothing; 1 where it was refused, with the reason."""
    parser = argparse.ArgumentParser(
        prog="./millrace clean", description="Remove everything that set-up and the stack wrote, data included, after `down`."
    )
    parser.add_argument("--yes", action="store_true", help="remove it without a question")
    given = parser.parse_args(words)
    folder = Path(os.environ.get("MILLRACE_HOME") or ROOT / ".millrace").resolve()
    try:
        if not folder.exists():
            home.refuse_unfit(folder)
            print(f"there is no {folder}: nothing to remove")
            return 0
        home.entries(folder)  # refused before a lock is written into a folder that is not ours
        with run_state.locked(folder / "run"):
            return _clean(folder, given.yes)
    except Stop as error:
        print(f"{error.code}: {error}", file=sys.stderr)
    except OSError as error:
        print(f"not removed: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 1


def _clean(folder: Path, sure: bool) -> int:
    chosen = home.entries(folder)
    print(f"To be removed from {folder}, data included:")
    for entry in chosen:
        print(f"  {entry.name}{' (a link; what it names stays)' if entry.is_symlink() else ''}")
    if not sure and not sys.stdin.isatty():
        print(
            "not removed: there is no terminal to ask at; `./millrace clean --yes` removes it without a question", file=sys.stderr
        )
        return 1
    if not sure and not _agreed():
        print("nothing was removed")
        return 1
    home.remove(folder, chosen)
    others = sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []
    print(f"removed {folder}" + (f", but for what is not ours: {', '.join(others)}" if others else ""))
    return 0


def _agreed() -> bool:
    try:
        return input("Remove it? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
