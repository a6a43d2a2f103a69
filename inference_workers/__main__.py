"""`python -m inference_workers --task NAME --slot N`."""

import os
import sys

# One thread a process, numpy's too: a second one for small products waits more than it works (579 against 473 transcriptions
# a second, at 3.4 against 2.1 ms of CPU each), and takes the core that another worker would use. Read when numpy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from inference_workers.process import main

if __name__ == "__main__":
    sys.exit(main())
