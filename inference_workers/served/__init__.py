"""Which version of each model answers: `model-updates-v1` announces it; a worker loads it beside the old one.

The worker swaps versions between batches.

`announcements.py` reads the updates, `version_loading.py` loads a version, `model_arm.py` is one arm (live, canary or shadow) of
one model, `swaps.py` acknowledges what became of announced versions, `served_models.py` holds all arms, and `batch_versions.py` is the set of versions that answers one batch.

May import: `tasks/`, `task.py`, `backends/`, `models/`, `networks/`, and `processors` and below; not the worker.
Next change: a new arm or a new rule for when a version answers. `docs/guarantees.md` ("Which version answers") states the
guarantee.
"""
