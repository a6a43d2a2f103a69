"""Trainers, really run, and the shipped models on data that they never saw. Some need the public data sets (marker `data`).

Next change: a new trainer, with a test that a second run from the same input writes the same folder.
"""
