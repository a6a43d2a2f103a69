"""What came of recommendations: `attribution.py` matches users' events with the answers that they had been given, and
`attribution_step.py` runs it in a loop, with the readers of `attribution_topics.py`.

May import: `streams`, `schemas`, `processors/settings.py`; not `features/` and `moderation/`.
Next change: what counts as engagement is `ENGAGED` in `attribution.py`.
"""
