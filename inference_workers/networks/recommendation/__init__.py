"""Networks of recommendation, and their inputs as arrays: shared by the trainer and the worker. Only the trainer imports the modules
with torch, `two_towers.py` and `candidate_ranker.py`.
"""
