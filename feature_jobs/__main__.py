"""`python -m feature_jobs COMMAND`: see `feature_jobs/command.py`."""

import sys

from feature_jobs.command import main

if __name__ == "__main__":
    sys.exit(main())
