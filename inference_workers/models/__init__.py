"""The format of a model version, shared with trainers: a folder with weights, config, signature, card and manifest.

`folder.py` reads and checks the folder; `addresses.py` finds a version by its URI (`shipped:`, `package:`, `file:`, `hf:`, `models:`,
`s3:`); `checkpoint.py` reads the Hugging Face layout; `packages.py` lists what `models fetch` makes out of packages;
`bucket_reader.py` copies folders from S3; `mlflow_client.py` and `mlflow_reader.py` are the only modules of the workers that import mlflow.

May import: `networks/`, `schemas`, `streams`; no backend, no task.
Next change: a new kind of URI goes into `addresses.py`.
"""
