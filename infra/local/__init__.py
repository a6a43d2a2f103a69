"""The local stack: servers and processes as children, without Docker.

`stack.py` is `up` and `down`; `core_servers.py`, `feature_servers.py` and `loop_processes.py` define what is started; there is
one module per server (`kafka.py`, `apicurio.py`, `flink.py`, `redis.py`, `mlflow.py`, `connect.py`, `web.py`); `keeper.py`
restarts a process that ends; `run_state.py`, `started.py` and `kept.py` record what runs; `jars.py`, `home.py` and `tls.py`
manage files.

May import: `infra/provision.py` and the small modules of `infra`, `streams`, `schemas`.
Next change: a server is one module with `start_…` and `answers`, called from `core_servers.py`.
"""
