"""One suite per seam, over everything behind it: brokers, tasks, triggers, networks, online stores, the monitor's interface.

Next change: a new implementation is found by its file or joins a list; a new promise of a seam is one test here.
"""
