"""Derived views in Faust: strikes per author, trending items, records per minute. Nothing depends on them.

`strikes.py` and `windows.py` are pure. `faust_views.py` reads the topics and serves pages; it is the only module that imports
faust.

May import: the rest of `processors`, `streams`, `schemas`.
Next change: a view is a pure module here and an agent with its page in `faust_views.py`. State that must not be lost belongs in a
Flink job (`feature_jobs/jobs/`).
"""
