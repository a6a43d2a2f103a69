"""Workers and brokers killed, frozen and starved; the ledger (`tests/support/ledger.py`) judges. `./millrace chaos` runs longer storms.

Next change: a new fault is a method of `stage.py` and a step of `storm.py` or `scale.py`.
"""
