"""The single thread that observes the broker and makes the snapshot that every reader gets.

`watch.py` is the thread. It follows the small topics (`follower.py` into `story.py`), takes samples (`sampler.py`:
`broker_offsets.py`, `loop_figures.py`, and through `asking.py` the `servers.py`; `figures_history.py` keeps an hour) and makes
the `snapshot.py`. `model_timeline.py`, `drift_watches.py` and `training_runs.py` derive models, drift and runs from the story.

May import: the rest of `infra/monitor/` except its routes and actions.
Next change: a figure for all readers. A figure whose cost grows with the number of readers does not belong here.
"""
