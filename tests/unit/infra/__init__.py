"""Command line, local processes, monitor: tests of `infra/` without servers."""
