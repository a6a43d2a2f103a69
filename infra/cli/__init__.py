"""The command line. `main.py` joins the groups of `--help`, a module `*_commands.py` each, where a command is declared in a few lines.
Its work is in a module of its own, imported when it runs.

May import: everything in `infra`, `streams`, `schemas`. Commands of other packages run as `python -m PACKAGE` (`infra/subcommands.py`).
Next change: a command is a function in the module of its group (`stack_commands.py`, …) and a module here.
"""
