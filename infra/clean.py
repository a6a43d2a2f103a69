"""`./millrace clean`: asks, then deletes everything that set-up and the stack wrote; refuses while any process of the stack
runs.

Standard library only: `./millrace` runs it with the machine's Python, so that it works even if the environment is broken.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from infra.local import home, run_state
from schemas.errors import Stop

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: list[str]) -> int:
    """0 if everything was deleted or nothing existed; 1, with the reason, if it was refused."""
    parser = argparse.ArgumentParser(
        prog="./millrace clean", description="Delete everything that set-up and the stack wrote, data too. Run `down` first."
    )
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    given = parser.parse_args(arguments)
    folder = Path(os.environ.get("MILLRACE_HOME") or ROOT / ".millrace").resolve()
    try:
        if not folder.exists():
            home.refuse_unfit(folder)
            print(f"nothing to delete: {folder} does not exist")
            return 0
        home.entries(folder)  # raises before a lock is written into a folder without a marker
        with run_state.locked(folder / "run"):
            return _clean(folder, given.yes)
    except Stop as error:
        print(f"{error.code}: {error}", file=sys.stderr)
    except OSError as error:
        print(f"not removed: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 1


def _clean(folder: Path, confirmed: bool) -> int:
    chosen = home.entries(folder)
    print(f"To be removed from {folder}, data included:")
    for entry in chosen:
        print(f"  {entry.name}{' (a link; its target is kept)' if entry.is_symlink() else ''}")
    if not confirmed and not sys.stdin.isatty():
        print(
            "not removed: there is no terminal to ask for confirmation. `./millrace clean --yes` removes it without asking",
            file=sys.stderr,
        )
        return 1
    if not confirmed and not _agreed():
        print("nothing was removed")
        return 1
    home.remove(folder, chosen)
    others = sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []
    print(f"removed {folder}" + (f", except entries that Millrace did not write: {', '.join(others)}" if others else ""))
    return 0


def _agreed() -> bool:
    try:
        return input("Remove it? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
