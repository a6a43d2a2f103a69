"""The catalogue, records and codec: tests of `schemas/` without servers."""
