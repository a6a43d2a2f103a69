"""Keeps one worker running: starts it again when it dies, with growing pauses, and gives up when it cannot live.

`python -m infra.local.keeper NAME COMMAND…`. A fenced worker (exit code 3) and a clean stop are not started again.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from types import FrameType

GIVE_UP_AFTER = 6  # quick deaths in a row
QUICK_S = 20.0
FENCED = 3


def main() -> int:
    name, command = sys.argv[1], sys.argv[2:]
    stopping = False
    child: subprocess.Popen[bytes] | None = None

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        if child is not None:
            child.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    quick_deaths = 0
    while not stopping:
        begun = time.monotonic()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        code = child.wait()
        if stopping or code in (0, FENCED):
            return 0 if stopping else code
        quick_deaths = quick_deaths + 1 if time.monotonic() - begun < QUICK_S else 1
        if quick_deaths >= GIVE_UP_AFTER:
            print(
                f"{name} ended {quick_deaths} times at once, the last with {code}: not started again", file=sys.stderr, flush=True
            )
            return 1
        pause_s = min(10.0, 0.5 * 2**quick_deaths)
        print(f"{name} ended with {code}; started again in {pause_s:.0f} s", file=sys.stderr, flush=True)
        time.sleep(pause_s)
    return 0


if __name__ == "__main__":
    sys.exit(main())
