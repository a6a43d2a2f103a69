"""`python -m inference_workers --task NAME --slot N`."""

import sys

from inference_workers.process import main

if __name__ == "__main__":
    sys.exit(main())
