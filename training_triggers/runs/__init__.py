"""Training runs: from a request to the gate's verdict.

`launch.py` (a loop) starts one child process per request; `training_run.py` is that child, in stages that each leave a file; `gate.py` judges
candidate and champion; `replay_compare.py` is the same comparison by hand; `report.py` and `report_page.py` show runs to people;
`manual_request.py` asks for one.

May import: `drift/`, `trainers/`, `recorded/`, `versions/`, `journal.py`; not `rollout/`.
Next change: another condition goes into `gate.py`, with a line in `docs/retraining.md` and a case in `tests/property/test_gate.py`.
"""
