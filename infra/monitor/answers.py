"""How answers are written: JSON that every parser takes, without secrets."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from infra import redact
from infra.monitor.plain import as_json


class Shown(JSONResponse):
    """What the system says of itself."""

    def render(self, content: Any) -> bytes:
        return as_json(redact.tree(content))


class Payload(JSONResponse):
    """Records as they lie on a topic: what somebody wrote there is shown as it is."""

    def render(self, content: Any) -> bytes:
        return as_json(content)
