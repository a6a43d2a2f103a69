"""`python -m processors policy decisions`."""

import sys

from processors.processor_loops import main

if __name__ == "__main__":
    sys.exit(main())
