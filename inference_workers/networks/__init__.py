"""Networks and their numpy preprocessing, the same in training and in serving.

Modules with torch (`convnet.py`, `listener.py`, `translator.py`) are imported by trainers and the exporter only; the rest is numpy.

May import: `streams`, `schemas`; no other folder of this package.
Next change: a network or its preprocessing. A change here changes what shipped versions answer: `tests/contract/test_networks.py` compares.
"""
