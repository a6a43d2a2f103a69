"""The stream monitor: a web server that shows the traffic of a stack, and changes it if the caller has a token.
`docs/monitor.md` describes its pages and modules.

`app.py` makes the server; `routes/` is its interface, one module per subject; `reading/` reads records for people; `watching/`
observes the broker; `actions.py`, `redrive.py` and `transact.py` make changes; `web/` holds the pages (TypeScript).
`typescript_types.py` writes the types of the pages, and `page_checks.py` checks the pages.

May import: `infra/running.py` and below, `streams`, `schemas`; not `cli/` or `demo/`.
Next change: CONTRIBUTING.md, "A page of the monitor".
"""
