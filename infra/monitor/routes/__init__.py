"""The interface below `/api`, a module a subject: what anybody on this machine may read, and beside it what a token unlocks.

Each module has a `router`, its answers as frozen dataclasses, and its endpoints; `shared_parts.py` has the types of their parameters and
`Operator` and `Releaser`, which an endpoint that changes something takes.

May import: all of `infra/monitor/` but `app.py`.
Next change: an endpoint with its answer's dataclass; `./millrace fix` then writes its type for the pages.
"""
