"""Tests over real servers, which a session starts once, in folders of its own (fixtures `servers` and `stack`). Marker: `real`.

Next change: a behaviour that only a real broker, registry, Flink or Redis can show. Otherwise prefer `tests/unit/`.
"""
