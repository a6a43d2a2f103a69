"""Benchmarks as commands: `./millrace bench NAME` runs the module NAME. Each measures a reference in the same run.

Next change: a module with `main`, and its figures in `docs/benchmarks.md` and `docs/benchmarks/`.
"""
