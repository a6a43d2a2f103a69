"""Kafka behind the interfaces of `streams/broker.py`: source, sink, admin, readers of whole topics.

No other folder imports confluent_kafka.

May import: `streams/broker.py`, `rows.py` and the small modules of `streams`, and `schemas`; not the loop.
Next change: a fault of the client or the broker is mapped to our errors here (`client_errors.py`). The loop must not depend on
it, and `tests/contract/test_broker.py` must pass for both brokers.
"""
