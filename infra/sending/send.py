"""`./millrace send`: sends requests and prints the answers in the order of the input."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from infra.running import addresses
from infra.sending.pace import Window, in_order
from infra.sending.request_input import Given, Line, requests
from infra.sending.result_lines import show
from infra.settings import StackSettings
from schemas.catalogue import consumption
from schemas.errors import InvalidRequest, MillraceError
from streams.claim_checks import ClaimChecks
from streams.client import Client, connect

# Fraction of the deadline that an answer should take: a worker that becomes five times slower still answers in time.
SHARE = 0.2


def run(settings: StackSettings, task: str, given: Given, deadline_ms: int, as_json: bool) -> int:
    """0 if every request was answered `ok`; 1 if any was invalid, expired, failed or got no answer."""
    consumption(task)  # reports an unknown task before anything else
    address, registry = addresses(settings)
    lines = requests(task, given, ClaimChecks([settings.blob_root]))
    return asyncio.run(_send(address.bootstrap, registry.url, task, lines, deadline_ms, as_json))


async def _send(bootstrap: str, registry: str, task: str, lines: Iterator[Line], deadline_ms: int, as_json: bool) -> int:
    statuses: Counter[str] = Counter()
    window = Window(deadline_ms / 1000 * SHARE)
    async with connect(bootstrap, registry, "millrace send") as client:
        async for result in in_order(lines, lambda line: _answer(client, task, line, deadline_ms, window), window):
            statuses[str(result["status"])] += 1
            show(task, result, as_json)
    if statuses.total() > 1:
        counts = ", ".join(f"{n} {status}" for status, n in statuses.most_common())
        print(f"{statuses.total()} requests: {counts}", file=sys.stderr)
    return 0 if statuses.total() == statuses["ok"] else 1


async def _answer(client: Client, task: str, line: Line, deadline_ms: int, window: Window) -> dict[str, Any]:
    """The result of one request; an error becomes the result. No request is sent twice."""
    if line.error is not None:
        return _failure("invalid", line.error)
    begun_s = time.monotonic()
    try:
        result = await client.request(task, line.fields, deadline_ms=deadline_ms, key=line.key)
    except InvalidRequest as error:
        return _failure("invalid", error)
    except MillraceError as error:
        window.answered(time.monotonic() - begun_s, False)
        return _failure("not-answered", error)
    window.answered(time.monotonic() - begun_s, result["status"] != "expired")
    return result


def _failure(status: str, error: MillraceError) -> dict[str, Any]:
    return {"request_id": None, "status": status, "error_code": error.code, "error_message": str(error)}
