"""The one thread that looks at the broker and makes the snapshot that every reader gets.

`watch.py` is the thread. It follows the small topics (`follower.py` into `story.py`), samples (`sampler.py`: `broker_offsets.py`,
`loop_figures.py`, and through `asking.py` the `servers.py`; `figures_history.py` keeps an hour) and makes the `snapshot.py`. What the story
tells of models, drift and runs is in `model_timeline.py`, `drift_watches.py` and `training_runs.py`.

May import: the rest of `infra/monitor/` but its routes and actions.
Next change: a figure for all readers. Whatever costs more the more people look does not belong here.
"""
