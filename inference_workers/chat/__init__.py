"""Answers of a language model, many at once: no topics here."""
