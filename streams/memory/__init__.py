"""A broker in memory, for tests and for runs without a server. It keeps the contract that real Kafka keeps:
offsets with gaps for transaction markers, aborted records hidden from read_committed readers, group generations that
fence late commits, rebalances with work in flight, size limits. What it does not have: time, disks, networks."""
