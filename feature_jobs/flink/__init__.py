"""Flink as our side sees it: the SQL of the features, table definitions, and the process that keeps jobs running.

`aggregates.py` is the only definition of the tiles, run by Flink and DuckDB; `ddl.py` makes tables from the catalogue;
`supervise.py` submits jobs again. No module here imports pyflink.

May import: `streams`, `schemas`, `feature_jobs/settings.py`.
Next change: a new sum of events is a line in `aggregates.py` (CONTRIBUTING.md, "A new sum of events").
"""
