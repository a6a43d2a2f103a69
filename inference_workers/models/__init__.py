"""The format of a model version, shared with trainers: a folder with weights, config, signature, card and manifest.

`folder.py` reads and checks the folder; `addresses.py` finds a version by its URI (`shipped:`, `file:`, `models:`, `hf:`);
`checkpoint.py` reads the Hugging Face layout; `mlflow_reader.py` is the only module of the workers that imports mlflow.

May import: `networks/`, `schemas`, `streams`; no backend, no task.
Next change: a new kind of URI goes into `addresses.py`.
"""
