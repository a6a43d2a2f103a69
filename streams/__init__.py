"""The loop, the two brokers under it, the client and the process around it. See README.md."""
