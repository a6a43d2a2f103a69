"""The loop: poll, admit, batch, step, release, commit. One module per concern; `loop.py` holds the order of the stages.

Start with `loop.py`, then `processor.py` (the seam that other packages implement), `step.py` (how a batch runs) and `outcome.py` (Emit,
Reject, Defer). Most modules are pure;
time, broker and metrics are passed in. ARCHITECTURE.md lists the modules ("Inside the loop").

May import: `broker.py`, `rows.py` and the small modules of `streams`, and `schemas`; no broker's own client.
Next change: a new rule for single records goes into `admit.py`, one for batches into `batching.py`, one for failures into `recovery.py`
or `breaker.py`. A change of what is committed needs a broken worker in `tests/integration/test_exactly_once.py` that the ledger catches.
"""
