"""Media of requests to pixels and samples. Files come from strangers, so they are decoded in a child process with limits.

`reader.py` is the door for tasks; `decoding_child.py` the process; `formats.py` the formats and limits; `stills.py`, `videos.py` and
`sounds.py` decode; `sampling.py` picks frames.

May import: `models/`, `networks/`, `streams`, `schemas`; not `backends/` or tasks.
Next change: a format goes into `formats.py` and one decoder. Give it a hostile file in `tests/support/media.py`.
"""
