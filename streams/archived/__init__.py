"""Records of a topic in Parquet files, each in exactly one committed file: the step that writes them, and the manifests that decide
which files exist.

May import: `streams/loop/` and what lies below it. Next change: another archive is a function from rows to a table
(`feature_jobs/offline/archive.py`, `inference_workers/vectors/result_vectors.py`).
"""
