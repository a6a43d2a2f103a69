"""`python -m infra.monitor`: serves the monitor until it is stopped. `./millrace monitor` finds a running monitor or starts
one."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from types import FrameType

import uvicorn

from infra.monitor import app, safety
from infra.monitor.services import Monitor
from infra.running import addresses
from infra.settings import StackSettings
from schemas.errors import MillraceError
from streams.clock import SystemClock
from streams.process.arguments import whole
from streams.process.settings import load
from streams.process.shell import configure_logging


class Server(uvicorn.Server):
    """Ends its streams when it is asked to stop."""

    def __init__(self, config: uvicorn.Config, monitor: Monitor) -> None:
        super().__init__(config)
        self._monitor = monitor

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.started:
            self._monitor.end_streams()
        super().handle_exit(sig, frame)


def main() -> int:
    parser = argparse.ArgumentParser(prog="infra.monitor")
    parser.add_argument("--port", type=whole(1, 65_535), required=True)
    parser.add_argument("--pages", type=Path, help="folder of the built front end")
    parser.add_argument("--no-pages", default="", help="why there is none")
    chosen = parser.parse_args()
    configure_logging(json_lines=True)
    settings = load(StackSettings, os.environ)
    try:
        address, ids = addresses(settings)
    except MillraceError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    tokens = safety.tokens(settings.run_folder / "monitor")
    monitor = Monitor(settings, address, ids, SystemClock(), tokens, chosen.pages, chosen.no_pages)
    config = uvicorn.Config(
        app.create(monitor),
        host=monitor.bound,
        port=chosen.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
        server_header=False,
        date_header=False,
        limit_concurrency=1_200,
        ws="none",
    )
    Server(config, monitor).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
