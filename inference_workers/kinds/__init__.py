"""The kinds of task that a person can declare, one file each. `KIND` is a class that makes the task of a declaration.

A shipped task may be of a kind too: `tasks/vision.py` is three lines. The records of each kind: `schemas/declared/task_kinds.py`.

May import: `task.py`, `backends/`, `media/`, `models/`, `networks/`, and `processors` and below; not `tasks/`.
Next change: CONTRIBUTING.md, "A new kind of task". `tests/contract/test_kinds.py` checks every file here.
"""
