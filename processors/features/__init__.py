"""Features at the edges of the system: validates events, and adds features to requests.

`validate.py` decides which events count, and `seen.py` remembers their ids. `enrich.py` joins features to a batch of requests by
each task's policy. `online_store.py` is the store (Redis), and `feature_blob.py` the format of its values. `recorded_features.py`
reads features from the prediction log, for replays.

May import: `streams`, `schemas`; not `moderation/`.
Next change: a rule for events goes into `validate.py`. A new feature is defined in `schemas/features.py` and computed in
`feature_jobs`.
"""
