"""Permissions, and the security headers for browsers. Without a token everything is read-only. A token names the actor and the
role, and is sent in a header of its own, never a cookie, so another site cannot use it. `infra/browser_guard.py` refuses requests
under other names and of other sites' pages."""

from __future__ import annotations

import base64
import getpass
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import BadSettings, Stop

ROLES = ("operator", "releaser")  # operator: records, dead letters, connectors, runs. releaser: which model answers
MOST_NAME = 64
_NAME = re.compile(rf"[A-Za-z0-9_.@-]{{1,{MOST_NAME}}}")
MOST_BODY_BYTES = 4 * 1024 * 1024
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src blob:; connect-src 'self'; "
        "worker-src 'self'; "  # blob: pictures and sounds of records, which our own pages create, each with a fixed type
        "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class NotAllowed(Stop):
    """The token is missing, wrong, or for another role."""

    code = "not-allowed"


def tokens(folder: Path) -> dict[str, str]:
    """One token per role, created at the first start and readable by its owner only. Raises BadSettings if the file has any
    other content."""
    file = folder / "tokens.json"
    if file.exists():
        try:
            found = json.loads(file.read_text())
        except ValueError:
            found = None
        if isinstance(found, dict) and set(found) == set(ROLES) and all(isinstance(one, str) and one for one in found.values()):
            return found
        raise BadSettings(f"{file} does not hold a token for each of {', '.join(ROLES)}: remove it, and new ones are made")
    folder.mkdir(parents=True, exist_ok=True)
    made = {role: secrets.token_urlsafe(24) for role in ROLES}
    part = file.with_suffix(".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        json.dump(made, out)
    part.replace(file)
    return made


@dataclass(frozen=True)
class Actor:
    """The owner of a token, and the actions that it permits."""

    name: str
    role: str


def owner() -> str:
    """The name for which the role's own token acts: the account that runs the monitor, which alone can read the file of
    tokens."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # an account without a name
        name = f"uid-{os.getuid()}"
    return re.sub(r"[^A-Za-z0-9_.@-]", "-", name)[:MOST_NAME] or "nobody"


def token_for(name: str, role_token: str) -> str:
    """A token of that role that acts as `name` and as nobody else: the name, and its HMAC-SHA256 under the role's own token.

    Raises BadSettings for an invalid name."""
    if not _NAME.fullmatch(name):
        raise BadSettings(f"{name!r} cannot be the name of a token: letters, digits, . _ @ - and at most {MOST_NAME} of them")
    digest = hmac.digest(role_token.encode(), name.encode(), hashlib.sha256)[:24]
    return f"{name}:{base64.urlsafe_b64encode(digest).decode()}"


def actor_of(authorization: str | None, known: Mapping[str, str]) -> Actor | None:
    """The actor of a bearer token: the role's own token, or one that `token_for` derived from it. None if there is no token.
    Raises NotAllowed for a wrong one. Takes the same time for each role."""
    if not authorization:
        return None
    scheme, _, given = authorization.partition(" ")
    given = given.strip()
    name = given.rpartition(":")[0]
    found = None
    for role, token in known.items():
        wanted = token_for(name, token) if _NAME.fullmatch(name) else token
        if hmac.compare_digest(wanted.encode(), given.encode()):
            found = Actor(name or owner(), role)
    if scheme.lower() != "bearer" or found is None:
        raise NotAllowed("this token is not one of ours: `./millrace monitor --tokens` prints them")
    return found
