"""PyFlink's Table API in its local cluster: Kafka table to Kafka table through a vectorised function, which gets Arrow batches of the
default size. A checkpoint every second ends the transactions of exactly once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
from pyflink.common import Configuration
from pyflink.table import DataTypes, EnvironmentSettings, TableEnvironment
from pyflink.table.udf import udf

from tests.benchmarks.peers.programs.answers import FIXED_HEADERS, TRANSACTION_LIMIT_MS, Answers, Job, Request

CHECKPOINT = "1 s"
ANSWERS: list[Answers] = []  # of the process that runs the function


def answer(value: Any, request_id: Any, partition: Any, offset: Any, timestamp: Any) -> Any:
    if not ANSWERS:
        ANSWERS.append(Answers(Job.given()))
    timestamps_ms = timestamp.astype("int64") / 1e6
    columns = zip(value, request_id, partition, offset, timestamps_ms, strict=True)
    return pd.Series(ANSWERS[0]([Request(row[0], row[1].decode(), *row[2:]) for row in columns]))


def _options(job: Job) -> dict[str, str]:
    return {
        "parallelism.default": "1",
        "pipeline.jars": Path(job.connector).as_uri(),
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
        "execution.checkpointing.interval": CHECKPOINT,
        "execution.checkpointing.dir": (Path(job.folder) / "checkpoints").as_uri(),
        "restart-strategy.type": "none",
        "rest.bind-address": "127.0.0.1",
        "rest.bind-port": "0",
        "table.local-time-zone": "UTC",
    }


def _tables(job: Job) -> tuple[str, str]:
    both = f"""'connector' = 'kafka', 'properties.bootstrap.servers' = '{job.bootstrap}', 'key.format' = 'raw',
        'key.fields' = 'name', 'value.format' = 'raw', 'value.fields-include' = 'EXCEPT_KEY'"""
    source = f"""CREATE TABLE requests (
        name BYTES, `value` BYTES,
        headers MAP<STRING, BYTES> METADATA VIRTUAL, `partition` INT METADATA VIRTUAL, `offset` BIGINT METADATA VIRTUAL,
        appended TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL
    ) WITH ({both}, 'topic' = '{job.requests}', 'properties.group.id' = '{job.group}', 'scan.startup.mode' = 'earliest-offset')"""
    sink = f"""CREATE TABLE results (name BYTES, `value` BYTES, headers MAP<STRING, BYTES> METADATA) WITH (
        {both}, 'topic' = '{job.results}', 'sink.delivery-guarantee' = '{job.guarantee}',
        'sink.transactional-id-prefix' = '{job.group}', 'properties.transaction.timeout.ms' = '{TRANSACTION_LIMIT_MS}')"""
    return source, sink


def main() -> None:
    job = Job.given()
    configuration = Configuration()
    for name, value in _options(job).items():
        configuration.set_string(name, value)
    settings = EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(configuration).build()
    tables = TableEnvironment.create(settings)
    tables.create_temporary_function("answer", udf(answer, result_type=DataTypes.BYTES(), func_type="pandas"))
    for statement in _tables(job):
        tables.execute_sql(statement)
    fixed = ", ".join(f"'{name}', CAST('{value.decode()}' AS BYTES)" for name, value in FIXED_HEADERS)
    tables.execute_sql(
        f"""INSERT INTO results SELECT name, answer(`value`, headers['ce_id'], `partition`, `offset`, appended),
        MAP['ce_id', headers['ce_id'], {fixed}] FROM requests"""
    ).wait()


if __name__ == "__main__":
    main()
