"""Which version is live, as the topic records it: promotion, rollback, compare and set, and MLflow's copy of it.

`promotion.py` writes `model-updates-v1`, always through `compare_and_set.py`; `update_history.py` interprets the updates;
`mlflow_registry.py` is the only module of the training side that imports mlflow; `reconcile.py` keeps MLflow's alias right.

May import: `journal.py`, `settings.py`, `inference_workers/models/`, `streams`, `schemas`.
Next change: another kind of update is a field with a default in `schemas/records/model-update/`, written here and read in
`inference_workers/served/`.
"""
