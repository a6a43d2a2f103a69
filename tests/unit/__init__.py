"""Tests of single modules, in seconds, without servers. One folder per package; tests across packages lie at the top:
`test_documents.py`, `test_fuzz_topics.py`, `test_hostile_records.py`.

Next change: a test of a module goes into the folder of its package.
"""
