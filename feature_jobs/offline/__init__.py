"""The offline store: archived events in Parquet, history by the same SQL, training sets, parity of both stores.

`archive.py` writes each event to one committed file (`streams/archived/`); `lake.py` (DuckDB) makes tiles and history;
`training_set.py` and `feast_store.py` join labels with features; `parity.py` compares both stores.

May import: `online/`, `flink/`, and `processors` and below.
Next change: only `lake.py` imports duckdb and only `feast_store.py` imports feast; a new query on history goes into `lake.py`.
"""
