"""`./millrace demo` and `./millrace demo --drift`: the stories, their traffic and their texts.

May import: `infra/local/`, `infra/provision.py`, `infra/running.py` and below, `streams`, `schemas`; `shoppers.py` also
`feature_jobs/traffic/`, whose shop it plays; not the monitor or the command line.
Next change: a story is one module here and an option of `demo` in `infra/cli/stack_commands.py`.
"""
