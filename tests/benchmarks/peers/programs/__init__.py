"""The compared programs, one module each, written as the documentation of its library shows. Their own interpreters run them; each
reads its task from the environment (`answers.py`), and runs until it is stopped."""
