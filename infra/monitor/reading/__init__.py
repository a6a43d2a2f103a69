"""Reading records for people: pages of them (`browse.py`) with a filter (`record_filter.py`), and live tails (`tails.py`).

May import: the pure modules of `infra/monitor/`, `infra/records.py` and below.
Next change: a new way to choose records is a parameter of `browse.page`, and of `routes/record_routes.py`.
"""
