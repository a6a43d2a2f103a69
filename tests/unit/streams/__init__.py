"""The loop and its parts, over the broker in memory: tests of `streams/` without servers."""
