"""One task per file, found by its name; `TASK` implements the protocol of `inference_workers/task.py`.

A task turns requests into its model's input and its model's output into answers. It never reads topics or loads models.

May import: `task.py`, `backends/`, `media/`, `models/`, `networks/`, and `processors` and below; not the worker.
Next change: CONTRIBUTING.md, "A new task". `tests/contract/test_tasks.py` checks every file here.
"""
