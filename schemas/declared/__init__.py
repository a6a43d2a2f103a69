"""Tasks that people declare in `millrace.toml`: the kinds there are, how the file is read, and the records of code of one's own.

`schemas/catalogue.py` puts their topics beside the shipped ones. May import: the modules of `schemas/` except the catalogue.
Next change: a kind is one entry in `task_kinds.py`, its records in `schemas/records/`, its code in `inference_workers/kinds/`.
"""
