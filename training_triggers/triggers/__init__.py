"""One trigger per file, found by its name: a test that tells two samples of a signal apart. `TRIGGER` implements the protocol of
`trigger.py`; `volume.py` and `age.py` use counts and time alone; `baseline_spread.py` measures how dependent entries are.

May import: `schemas`, `streams`; nothing else of this package. All of it is pure.
Next change: CONTRIBUTING.md, "A new trigger". `tests/contract/test_triggers.py` checks every file here.
"""
