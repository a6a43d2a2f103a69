"""One Flink job a file. Each runs in Flink's own environment, which has pyflink and the pure parts of this repository:
`schemas` and `feature_jobs/flink/ddl.py`, `aggregates.py`."""
