"""What runs a network: ONNX Runtime, torch, Hugging Face checkpoints. `backend.py` is the seam, `choose.py` picks by a version's source.

`scorers.py` puts preprocessing around a network, so a task passes texts, pictures or sounds and gets arrays.

May import: `models/`, `networks/`, `streams`, `schemas`; not `media/` or tasks.
Next change: a new runtime is one file here and a case in `choose.py`; `tests/contract/test_networks.py` compares runtimes.
"""
