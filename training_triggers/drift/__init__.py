"""Turns the prediction log into a request for training.

`detect.py` is the step of `drift` and `accuracy`: it extracts entries and keeps one watch per version. `version_watch.py`
compares windows with a baseline; `watch_state.py` stores a watch in `drift-state-v1`; `decide.py` turns many findings into one
request; `renew_baseline.py` is the command.

May import: `recorded/`, `triggers/`, `versions/`, `journal.py`; not `runs/` or `rollout/`.
Next change: another signal goes into `of_log` or `of_outcome` of `detect.py`; another rule for requests goes into `decide.py`.
"""
