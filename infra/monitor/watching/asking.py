"""Questions to other processes, on separate threads: a slow answer must not delay the observation of everything else."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait

from infra import metrics_page
from infra.monitor.watching import servers
from infra.settings import StackSettings

AT_ONCE = 12
PAGES_LIMIT_S = 1.5  # for all pages together
FIRST_S, NEXT_S = 1.0, 0.2
JobsAndGpus = tuple[list[servers.Job], list[metrics_page.Gpu]]


class Asking:
    """Call from one thread."""

    def __init__(self, settings: StackSettings) -> None:
        self._settings = settings
        self._pool = ThreadPoolExecutor(AT_ONCE, "asking")
        self._slow: Future[JobsAndGpus] | None = None
        self._last: JobsAndGpus = [], []

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def pages(self, addresses: set[str]) -> dict[str, metrics_page.Page]:
        """The pages that arrived in time."""
        asked = {self._pool.submit(metrics_page.page, address): address for address in sorted(addresses)}
        done, late = wait(asked, timeout=PAGES_LIMIT_S)
        for one in late:
            one.cancel()
        return {asked[one]: found for one in done if (found := one.result()) is not None}

    def jobs_and_gpus(self) -> JobsAndGpus:
        """Flink's jobs, and the GPUs, from the latest answers: a late answer appears in the next sample."""
        begun = self._slow is None
        slow = self._slow or self._pool.submit(lambda: (servers.jobs(self._settings.run_folder), metrics_page.gpus()))
        self._slow = slow
        wait([slow], timeout=FIRST_S if begun else NEXT_S)
        if slow.done():
            self._slow = None
            self._last = slow.result()
        return self._last
