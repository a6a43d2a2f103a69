"""Properties under generated input (hypothesis), and brute-force references: codec, loop parts, membership, features, gate.

Next change: a rule with a simple slow definition. Write that definition in `tests/support/`, and compare.
"""
