"""The command line. `main.py` joins the groups of `--help`; each group is a module `*_commands.py`, in which a command takes a
few lines. The work of a command is in a module of its own, which is imported when the command runs.

May import: everything in `infra`, `streams`, `schemas`. Commands of other packages run as `python -m PACKAGE`
(`infra/subcommands.py`).
Next change: a command is a function in the module of its group (`stack_commands.py`, …) and a module here.
"""
