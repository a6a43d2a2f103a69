"""What was asked, answered and true: recorded requests joined with labels, and comparisons of two versions on them.

`training_window.py` is the material of a run, `held_back.py` its split, `truth.py` what labels say, `judgement.py` whether an answer is right;
`compare.py`, `paired.py` and `confidence_sequence.py` are the statistics; `evidence.py` joins in memory for the rollout.

May import: `versions/`, `triggers/`, `journal.py`, `inference_workers/models/`; most modules are pure.
Next change: a new measure of two versions goes into `compare.py`; whether it matters is decided in `runs/gate.py`.
"""
