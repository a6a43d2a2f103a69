"""Features at the edges: events are validated, and requests get their features.

`validate.py` decides which events count, `seen.py` remembers their ids; `enrich.py` joins features to a batch of requests by each task's policy;
`online_store.py` is the store (Redis), `feature_blob.py` the bytes in it, `recorded_features.py` features from the prediction log, for
replays.

May import: `streams`, `schemas`; not `moderation/`.
Next change: a rule for events goes into `validate.py`. A new feature is defined in `schemas/features.py` and computed in `feature_jobs`.
"""
