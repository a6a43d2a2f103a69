"""Training of recommendation: `train_recommender.py` is the order of it, `measured_version.py` what a command makes of it.

May import: other trainers, `inference_workers/recommending/`, its networks and model folders, generated traffic and the archive.
Next change: a reader of events in `event_readers.py`; a feature of the ranker in the ranking features of `inference_workers/networks/`.
"""
