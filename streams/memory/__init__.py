"""A broker in memory, for tests and for runs without a server. It implements the same contract as real Kafka:
offsets with gaps for transaction markers, aborted records hidden from read_committed readers, group generations that
fence late commits, rebalances with work in flight, size limits. It does not simulate time, disks or networks.

May import: `streams/broker.py`, `rows.py` and the small modules of `streams`, and `schemas`; not the loop.
Next change: behaviour of real Kafka that a test needs, together with a test in `tests/contract/test_broker.py` for both brokers.
"""
