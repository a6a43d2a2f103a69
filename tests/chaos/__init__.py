"""Kills, freezes and starves workers and brokers; the ledger (`tests/support/ledger.py`) decides whether every request was
answered correctly. `./millrace chaos` runs longer storms.

Next change: a new fault is a method of `stage.py` and a step of `storm.py` or `scale.py`.
"""
