"""Metrics for Prometheus that only the monitor has: lag, waiting dead letters, running processes. Pure."""

from __future__ import annotations

from infra.monitor.watching.snapshot import Snapshot

FAMILIES = (
    ("millrace_group_lag_records", "Offsets between a group's position and the end, markers of transactions included."),
    ("millrace_group_lag_seconds", "Age of a group's first unread record, of its worst partition."),
    ("millrace_dead_letters_waiting", "Dead letters of a group that were not redriven."),
    ("millrace_group_running", "Whether a loop of the group says that it runs, 0 or 1."),
)


def page(snapshot: Snapshot) -> str:
    """The page in the exposition format, version 0.0.4."""
    values: dict[str, list[str]] = {name: [] for name, _ in FAMILIES}
    for group, about in snapshot.groups.items():
        for topic, edge in about.edges.items():
            labels = f'{{group="{group}",topic="{topic}"}}'
            values["millrace_group_lag_records"].append(f"{labels} {edge.lag:g}")
            values["millrace_group_lag_seconds"].append(f"{labels} {edge.lag_s:g}")
        values["millrace_dead_letters_waiting"].append(f'{{group="{group}"}} {about.waiting}')
        values["millrace_group_running"].append(f'{{group="{group}"}} {int(about.state == "running")}')
    lines = []
    for name, help_ in FAMILIES:
        lines += [f"# HELP {name} {help_}", f"# TYPE {name} gauge", *(name + value for value in values[name])]
    return "\n".join(lines) + "\n"
