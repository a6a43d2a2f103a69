"""The steps after a moderation verdict: actions, reviews, labels, and removal of stored media.

`policy.py` maps verdicts and reviewers' labels to actions; `timely_labels.py` decides which labels are in time for the join with
predictions; `cleaner.py` removes media that no record can still refer to.

May import: `streams`, `schemas`; not `features/`.
Next change: a rule of moderation goes into `policy.py`, with its setting in `processors/settings.py`.
"""
