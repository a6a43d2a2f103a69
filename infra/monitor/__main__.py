"""`python -m infra.monitor`: serve the monitor until told to stop. `./millrace monitor` finds or starts it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import uvicorn

from infra.inspect import addresses
from infra.monitor import app, safety
from infra.monitor.monitor import Monitor
from infra.settings import StackSettings
from schemas.errors import MillraceError
from streams.clock import SystemClock
from streams.service import configure_logging
from streams.settings import load


def main() -> int:
    parser = argparse.ArgumentParser(prog="infra.monitor")
    parser.add_argument("--port", type=int, required=True)
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
    uvicorn.run(
        app.create(monitor), host=monitor.bound, port=chosen.port, log_level="warning", access_log=False, timeout_graceful_shutdown=2,
        server_header=False, date_header=False, limit_concurrency=1_200,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
