"""One Flink job per file. Each runs in Flink's own environment, which has pyflink and the pure parts of this repository:
`schemas`, and `ddl.py` and `aggregates.py` of `feature_jobs/flink/`.

May import: only those, and pyflink, which no other folder imports.
Next change: a new job is a file with `NAME` and `plan`, as `job.py` describes, and its name in `JOBS` of
`infra/local/feature_servers.py`.
"""
