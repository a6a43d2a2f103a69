"""Events for trials: generated shop traffic, and MovieLens replayed in event time.

May import: `streams`, `schemas`, `feature_jobs/settings.py`.
Next change: a new source of events is a function in `event_sources.py` and a command in `feature_jobs/cli.py`.
"""
