"""`./millrace send`: requests from words, files or standard input, sent at a pace that is answered in time, and their answers.

May import: `infra/running.py`, `infra/records.py` and below. Next change: a record of a result gets its lines in `result_lines.py`.
"""
