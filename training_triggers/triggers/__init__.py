"""One trigger a file, found by its name: what tells two samples of a signal apart. `TRIGGER` keeps the protocol of `trigger.py`."""
