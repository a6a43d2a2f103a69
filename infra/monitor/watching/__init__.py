"""The one thread that looks at the broker and makes the snapshot that every reader gets.

`watch.py` is the thread; `asking.py` asks the broker, `servers.py` the other servers; `figures_history.py` keeps an hour of figures;
`story.py` follows the small topics.

May import: the rest of `infra/monitor/` but its routes and actions.
Next change: a figure for all readers. Whatever costs more the more people look does not belong here.
"""
