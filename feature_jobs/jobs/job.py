"""Defines a job (a module in this folder with `NAME` and `plan`) and submits it: SQL statements to a session cluster, under a
name, from the newest checkpoint.

A restored SQL job finds its state by the operators' places in the plan: the same statements on the same version of Flink give the
same plan. After a change of the statements, state is built anew from the topics' first records.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pyflink.common import Configuration
from pyflink.table import EnvironmentSettings, TableEnvironment


@dataclass(frozen=True)
class Plan:
    """tables: definitions. inserts: the statements that run, as one job. options: Flink's, besides those of every job."""

    tables: Sequence[str]
    inserts: Sequence[str]
    options: Mapping[str, str] = field(default_factory=dict)
    views: Sequence[str] = ()


def submit(name: str, plan: Plan, cluster: str, checkpoints: Path, interval_ms: int, parallelism: int) -> str:
    """Start the job on the cluster (host:port of its REST server) and return its id; the job continues without this process.
    Raises Flink's errors."""
    host, _, port = cluster.rpartition("//")[2].partition(":")
    options = {
        "execution.target": "remote",
        "rest.address": host,
        "rest.port": port,
        "execution.attached": "false",
        "pipeline.name": name,
        "parallelism.default": str(parallelism),
        "execution.checkpointing.interval": f"{interval_ms} ms",
        "execution.checkpointing.dir": (checkpoints / name).as_uri(),  # without it a large checkpoint ends the job
        "execution.checkpointing.num-retained": "2",
        "execution.checkpointing.min-pause": f"{interval_ms // 2} ms",
        "state.backend.type": "hashmap",
        **_security(),
        **plan.options,
    }
    newest = newest_checkpoint(checkpoints / name)
    if newest is not None:
        options["execution.state-recovery.path"] = newest.as_uri()
    configuration = Configuration()
    for key, value in options.items():
        configuration.set_string(key, value)
    table = TableEnvironment.create(
        EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(configuration).build()
    )
    for statement in (*plan.tables, *plan.views):
        table.execute_sql(statement)
    statements = table.create_statement_set()
    for insert in plan.inserts:
        statements.add_insert_sql(insert)
    return str(statements.execute().get_job_client().get_job_id())


def _security() -> dict[str, str]:
    """The credentials that the cluster requires of a submitter, from the cluster's configuration: a table environment does not
    read that file."""
    folder = os.environ.get("FLINK_CONF_DIR")
    lines = (Path(folder) / "config.yaml").read_text().splitlines() if folder else []
    return {name: value for name, _, value in (line.partition(": ") for line in lines) if name.startswith("security.ssl.")}


def newest_checkpoint(folder: Path) -> Path | None:
    """The last completed checkpoint of any run of the job: a completed one has its `_metadata`."""
    found = list(folder.glob("*/chk-*/_metadata"))
    return max(found, key=lambda file: file.stat().st_mtime).parent if found else None
