"""`python -m feature_jobs COMMAND`: see `feature_jobs/cli.py`."""

import sys

from feature_jobs.cli import main

if __name__ == "__main__":
    sys.exit(main())
