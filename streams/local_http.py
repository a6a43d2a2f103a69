"""HTTP to servers of the stack: never through a proxy, whatever the environment names."""

from __future__ import annotations

import json
import ssl
import urllib.request
from typing import Any

PAGE_LIMIT_S = 2.0
JSON_LIMIT_S = 5.0


def opener(tls: ssl.SSLContext | None = None) -> urllib.request.OpenerDirector:
    """tls: with the key to show to a server that asks for one."""
    handlers = [] if tls is None else [urllib.request.HTTPSHandler(context=tls)]
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), *handlers)


def page_answers(url: str, tls: ssl.SSLContext | None = None) -> bool:
    """Whether a GET is answered with status 200 within PAGE_LIMIT_S."""
    try:
        with opener(tls).open(url, timeout=PAGE_LIMIT_S) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def json_of(url: str, tls: ssl.SSLContext | None = None) -> dict[str, Any] | None:
    """The JSON object that a GET is answered with; None where there is no answer within JSON_LIMIT_S, or another one."""
    try:
        with opener(tls).open(url, timeout=JSON_LIMIT_S) as answer:
            body: dict[str, Any] = json.load(answer)
            return body
    except (OSError, ValueError):
        return None
