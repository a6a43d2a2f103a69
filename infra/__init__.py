"""Command line, local stack, provisioning, stream monitor. See README.md."""
