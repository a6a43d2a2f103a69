"""Who may do what, and what a browser is told. Read-only without a token; a token is sent in a header of its own, never a cookie,
so another site cannot use it; the host must be this one, so another name that points here cannot either."""

from __future__ import annotations

import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from schemas.errors import Stop

ROLES = ("operator", "releaser")  # operator: records, dead letters, connectors, runs. releaser: which model answers
MOST_BODY_BYTES = 4 * 1024 * 1024
LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; worker-src 'self'; "
        "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class NotAllowed(Stop):
    """The token is missing, wrong, or for something else."""

    code = "not-allowed"


def tokens(folder: Path) -> dict[str, str]:
    """A token a role, made at the first start and readable by its owner only."""
    file = folder / "tokens.json"
    if file.exists():
        found: dict[str, str] = json.loads(file.read_text())
        if set(found) == set(ROLES):
            return found
    folder.mkdir(parents=True, exist_ok=True)
    made = {role: secrets.token_urlsafe(24) for role in ROLES}
    part = file.with_suffix(".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        json.dump(made, out)
    part.replace(file)
    return made


def role_of(authorization: str | None, known: Mapping[str, str]) -> str | None:
    """The role of a bearer token; None where there is none. Raises NotAllowed for a wrong one. Takes the same time for each."""
    if not authorization:
        return None
    scheme, _, given = authorization.partition(" ")
    found = [role for role, token in known.items() if hmac.compare_digest(token.encode(), given.strip().encode())]
    if scheme.lower() != "bearer" or not found:
        raise NotAllowed("this token is not one of ours: `./millrace monitor --tokens` prints them")
    return found[0]


def refused(
    method: str, host: str, origin: str | None, fetch_site: str | None, content_type: str | None, bound: str
) -> str | None:
    """Why a request is not taken at all; None where it may go on. bound: the address that is listened on."""
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    if name not in LOOPBACK and name != bound:
        return f"host {host!r} is not this machine's: open http://127.0.0.1"
    if method in ("GET", "HEAD", "OPTIONS"):
        return None
    if origin is not None and origin.partition("://")[2] != host:
        return f"a page of {origin} may do nothing here"
    if fetch_site is not None and fetch_site not in ("same-origin", "none"):
        return "a page of another site may do nothing here"
    if (content_type or "").partition(";")[0].strip().lower() != "application/json":
        return "the body must be application/json"
    return None
