"""`python -m infra.openai_door --port N`: serves OpenAI's API until it is stopped. `./millrace serve` runs it in the foreground."""

from __future__ import annotations

import argparse
import os
import sys

import uvicorn

from infra.browser_guard import LOOPBACK
from infra.openai_door.door_app import create
from infra.openai_door.settings import DoorSettings
from schemas.errors import MillraceError
from streams.process.arguments import whole
from streams.process.settings import load
from streams.process.shell import configure_logging


def main() -> int:
    parser = argparse.ArgumentParser(prog="infra.openai_door")
    parser.add_argument("--port", type=whole(1, 65_535), required=True)
    parser.add_argument("--host", default="127.0.0.1")
    chosen = parser.parse_args()
    configure_logging(json_lines=True)
    try:
        token = load(DoorSettings, os.environ).door_token
    except MillraceError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    if chosen.host not in LOOPBACK and not token:
        print(f"bad-settings: --host {chosen.host} is open to other machines: set MILLRACE_DOOR_TOKEN first", file=sys.stderr)
        return 1
    uvicorn.run(
        create(),
        host=chosen.host,
        port=chosen.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
        server_header=False,
        limit_concurrency=1_200,
        ws="none",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
