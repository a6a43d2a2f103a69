"""Server-sent events to listeners, within the limit of their number."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import StreamingResponse

from infra.monitor.reading.tails import Hub, Listener
from infra.monitor.services import Monitor


def stream(monitor: Monitor, request: Request, hub: Hub, listener: Listener) -> StreamingResponse:
    """Runs on the server's own thread."""
    client = f"{request.client.host if request.client else ''} {request.headers.get('user-agent', '')[:200]}"
    monitor.streams.admit(client, listener)
    events = monitor.streams.until_gone(client, listener, hub.events(listener))
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
