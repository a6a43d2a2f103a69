"""Requests, answers and labels: recorded requests joined with labels, and comparisons of two versions on them.

`training_window.py` is the data of a run, `label_wait.py` waits for its labels, `held_back.py` splits it; `truth.py` holds the
labels of a request, `judgement.py` says whether an answer is right; `pairing.py` joins the answers of two versions,
`comparison.py` holds the result; `compare.py`, `paired.py` and `confidence_sequence.py` are the statistics; `evidence.py` joins
in memory for the rollout.

May import: `versions/`, `triggers/`, `journal.py`, `inference_workers/models/`; most modules are pure.
Next change: a new measure of two versions goes into `compare.py`; whether it matters is decided in `runs/gate.py`.
"""
