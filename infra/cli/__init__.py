"""The command line. `main.py` declares each command in a few lines; its work is in a module of its own, imported when it runs.

May import: everything in `infra`, `streams`, `schemas`. Commands of other packages run as `python -m PACKAGE` (`infra/subcommands.py`).
Next change: a command is a function in `main.py` (or `model_commands.py`) and a module here.
"""
