"""Training runs: from a request to the gate's verdict.

`launch.py` (a loop) starts one child process per request; `run_process.py` is that child and `training_run.py` its stages, each
of which writes a file; `gate.py` judges candidate and champion, `gate_unlabelled.py` their answers without labels;
`replay_compare.py` is the same comparison as a command; `report.py` and `report_page.py` show runs to people; `manual_request.py`
requests one.

May import: `drift/`, `trainers/`, `recorded/`, `versions/`, `journal.py`; not `rollout/`.
Next change: another condition goes into `gate.py`, with a line in `docs/retraining.md` and a case in
`tests/property/test_gate.py`.
"""
