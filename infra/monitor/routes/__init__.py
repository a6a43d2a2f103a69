"""The interface below `/api`, one module per subject. Everybody on this machine may read; actions need a token.

Each module has a `router`, its answers as frozen dataclasses, and its endpoints; `shared_parts.py` has the types of their
parameters and `Operator` and `Releaser`, which every endpoint that changes something takes.

May import: all of `infra/monitor/` except `app.py`.
Next change: an endpoint with its answer's dataclass; `./millrace fix` then writes its type for the pages.
"""
