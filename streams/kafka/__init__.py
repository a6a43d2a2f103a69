"""Kafka behind the seam of `streams/broker.py`: source, sink, admin, readers of whole topics. The only folder that imports confluent_kafka.

May import: `streams/broker.py`, `rows.py` and the small modules of `streams`, and `schemas`; not the loop.
Next change: a fault of the client or the broker is mapped to our errors here (`client_errors.py`). The loop must not learn of it, and
`tests/contract/test_broker.py` must hold for both brokers.
"""
