"""Drift, training runs, rollout and versions: the loop that retrains. See README.md."""
