"""`./millrace bench peers`: our worker beside other ways to answer requests from Kafka in Python. One broker, the same requests,
network and results.

| file | |
|---|---|
| `compared.py` | the programs, with their guarantee, number of requests and command |
| `environments.py` | a Python environment for each peer, from `requirements/` |
| `filled.py`, `json_requests.py` | the requests; MLServer has a topic of its own |
| `rounds.py`, `measured.py` | all programs in turn; one run of one program |
| `visible.py`, `tally.py` | the results that a read_committed reader can see, and whether each request has its own |
| `goals.py`, `chart.py` | figures, goals, SVG |
| `programs/` | one small program per peer |

Next change: a program in `programs/`, a line in `compared.py` and its requirements, and how it was written in
`docs/benchmarks/peers.md`.
"""
