"""Sink, archive, lake, parity, label files: tests of `feature_jobs/` without servers."""
