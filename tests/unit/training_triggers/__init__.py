"""Detectors, decisions, runs, evidence, rollout, compare and set: tests of `training_triggers/` without servers."""
