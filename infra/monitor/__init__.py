"""The stream monitor: a web server that shows what flows, and acts on it with a token. `docs/monitor.md` describes its pages and modules.

`app.py` makes the server; `routes/` is its interface, a module a subject; `reading/` reads records for people; `watching/` looks at the
broker; `actions.py`, `redrive.py` and `transact.py` act; `web/` holds the pages (TypeScript), whose types `typescript_types.py` writes and which `page_checks.py` checks.

May import: `infra/running.py` and below, `streams`, `schemas`; not `cli/` or `demo/`.
Next change: CONTRIBUTING.md, "A page of the monitor".
"""
