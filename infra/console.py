"""Output for people: steps with a tick and a time, progress bars, tables. Colours on a terminal only."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich import markup
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from streams.terminal_text import visible

_PIPED_WIDTH = 180
out = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def escape(text: str) -> str:
    """Untrusted text for `out.print`: removes markup and control characters."""
    return markup.escape(visible(text, keep=""))


def marked(text: str) -> Text:
    """Text with markup, for a cell of `table`."""
    return Text.from_markup(text)


@contextmanager
def step(title: str) -> Iterator[Callable[[str], None]]:
    """One line: the title, then a tick with the time it took, or a cross. Yields a function for a closing remark."""
    remark: list[str] = []
    begun = time.perf_counter()
    try:
        if out.is_terminal:
            with out.status(title):
                yield remark.append
        else:
            yield remark.append
    except BaseException:
        out.print(f"  [red]✗[/] {title}")
        raise
    tail = f"  [dim]{remark[-1]}[/]" if remark else ""
    out.print(f"  [green]✓[/] {title:<34} [dim]{time.perf_counter() - begun:5.1f} s[/]{tail}")


@contextmanager
def download(title: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal; otherwise one line per quarter. Yields a function that takes the number of bytes of each
    step."""
    if out.is_terminal:
        columns = ("  {task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=out, transient=True) as progress:
            task = progress.add_task(title, total=total_bytes)
            yield lambda n: progress.advance(task, n)
        return
    done, shown = [0], [0]

    def advance(n: int) -> None:
        done[0] += n
        quarter = 4 * done[0] // max(1, total_bytes)
        if quarter > shown[0]:
            shown[0] = quarter
            out.print(f"    {title}: {done[0] / 1e6:.0f} of {total_bytes / 1e6:.0f} MB")

    yield advance


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str | Text]], right: Sequence[str] = ()) -> None:
    """Cells are printed as plain text, so they may be untrusted; only the title and cells from `marked` may contain markup."""
    grid = Table(title=title, title_justify="left", title_style="bold", show_edge=False, pad_edge=False, box=None, padding=(0, 2))
    for column in columns:
        grid.add_column(column, justify="right" if column in right else "left", header_style="dim", overflow="fold")
    for row in rows:
        grid.add_row(*(cell if isinstance(cell, Text) else Text(visible(cell, keep="\n")) for cell in row))
    out.print(grid)
