"""Shared parts of tests: the ledger, steps and tasks for tests, faults, hostile records, small media, stacks, brute-force
references.

Next change: code that two test modules need. It may import every package, and no test module.
"""
