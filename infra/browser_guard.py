"""What a server on this machine refuses to browsers: requests under another name, which may resolve to this machine, and those of pages
of other sites. Pure.

A browser sends Origin, Sec-Fetch-Site or both with what a page asks for; programs send neither. A page cannot send a body of
`application/json` to another site without asking it first, and these servers never agree.
"""

from __future__ import annotations

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
READS = ("GET", "HEAD", "OPTIONS")
NO_JSON = "the body must be application/json"


def refused(
    method: str,
    host: str,
    origin: str | None,
    fetch_site: str | None,
    content_type: str | None,
    bound: str,
    path: str = "/api",
) -> str | None:
    """The reason why a request to the monitor is refused; None if it is accepted. bound: the address on which the server listens.

    Another site's page may link to this one, but may not request anything else, because some answers cost a process or a
    search."""
    if why := of_another_name(host, bound):
        return why
    if method in READS and not path.startswith(("/api", "/metrics")):
        return None
    if why := of_another_site(host, origin, fetch_site):
        return why
    return None if method in READS or is_json(content_type) else NO_JSON


def of_another_name(host: str, bound: str = "") -> str | None:
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    return (
        None if name and (name in LOOPBACK or name == bound) else f"host {host!r:.80} is not this machine's: use http://127.0.0.1"
    )


def of_another_site(host: str, origin: str | None, fetch_site: str | None) -> str | None:
    if origin is not None and origin.partition("://")[2] != host:
        return f"a page of {origin:.80} may ask for nothing here"
    if fetch_site is not None and fetch_site not in ("same-origin", "none"):
        return "a page of another site may ask for nothing here"
    return None


def is_json(content_type: str | None) -> bool:
    return (content_type or "").partition(";")[0].strip().lower() == "application/json"
