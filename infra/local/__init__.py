"""The local stack: servers and processes as children, without Docker.

`stack.py` is `up` and `down`; one module per server (`kafka.py`, `apicurio.py`, `flink.py`, `redis.py`, `mlflow.py`, `connect.py`, `web.py`);
`keeper.py` starts a process again when it ends; `run_state.py`, `started.py` and `kept.py` know what runs; `jars.py` and `home.py` own files.

May import: `infra/provision.py` and the small modules of `infra`, `streams`, `schemas`.
Next change: a server is one module with `start_…` and `answers`, called from `stack.py`.
"""
