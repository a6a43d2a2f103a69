"""The process around loops: settings, arguments, logging, metrics page, status records, signals, watchdog.

`wiring.py` creates every loop of every package; `shell.py` runs loops until a signal; `status.py` reports their status;
`watchdog.py` ends a process that stands still; `settings.py` reads the environment; `group_settings.py` has the settings that
every loop needs; `record_processor.py` runs a function over single records; `shares.py` lets the loops of one process take turns.

May import: everything else in `streams`, and `schemas`.
Next change: behaviour that every process of Millrace shares. A setting of one package goes into the `settings.py` of that
package.
"""
