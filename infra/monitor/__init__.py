"""The stream monitor: a web server that shows what flows, and acts on it with a token. `docs/monitor.md` describes its pages and modules.

`app.py` makes the server; `routes_read.py` and `routes_write.py` are its interface; `watching/` looks at the broker; `actions.py`, `redrive.py`
and `transact.py` act; `web/` holds the pages (TypeScript).

May import: `infra/running.py` and below, `streams`, `schemas`; not `cli/` or `demo/`.
Next change: CONTRIBUTING.md, "A page of the monitor".
"""
