"""Predictions with their labels: `prediction-log-v1` joined with `labels-timely-v1`, exactly once.

A log record is one batch through one model; each of its entries becomes a row. The first row of each (request, model, version,
arm, part) and the first label of each (request, source) count, whichever side arrives first. Both sides are kept for the label
horizon; the loop that writes the labels (`processors/moderation/timely_labels.py`) lets no later label through.
"""

from __future__ import annotations

from feature_jobs.flink.ddl import Addresses, sink, source
from feature_jobs.jobs.job import Plan
from schemas import avro
from schemas.durations import DAY_MS
from schemas.topics import LABEL_HORIZON_MS, LABELS_TIMELY, PREDICTION_LOG, PREDICTION_OUTCOMES
from schemas.vocabulary import FlinkGroup

NAME = "outcomes"

# An entry's slice of the batch's output: Flink slices texts, not bytes, and in Latin-1 each byte is one character.
_ENTRIES = """\
CREATE VIEW entries AS
SELECT request_id, task, model, version, arm, started_ms, outputs_dtype, output_names, thresholds, arrived,
       COALESCE(parts[nth], '') AS part,
       ENCODE(SUBSTRING(latin FROM (nth - 1) * width + 1 FOR width), 'ISO-8859-1') AS outputs
FROM (SELECT *, DECODE(outputs, 'ISO-8859-1') AS latin,
             CHAR_LENGTH(DECODE(outputs, 'ISO-8859-1')) / CARDINALITY(request_ids) AS width
      FROM log WHERE CARDINALITY(request_ids) > 0)
CROSS JOIN UNNEST(request_ids) WITH ORDINALITY AS entry(request_id, nth)"""


def _first(view: str, table: str, key: str) -> str:
    """The rows of a table whose key occurs for the first time."""
    return (
        f"CREATE VIEW {view} AS SELECT * FROM "
        f"(SELECT *, ROW_NUMBER() OVER (PARTITION BY {key} ORDER BY arrived) AS seen FROM {table}) WHERE seen = 1"
    )


def plan(addresses: Addresses) -> Plan:
    arrived = ("arrived AS PROCTIME()",)
    of = {
        "predicted_ms": "p.started_ms",
        "source": "l.source",
        "truth": "l.truth",
        "part_truth": "l.parts",
        "text": "l.`text`",
        "labelled_ms": "l.labelled_ms",
    }
    columns = [field["name"] for field in avro.schema("prediction-outcome")["fields"]]
    return Plan(
        tables=[
            source("log", PREDICTION_LOG, addresses, FlinkGroup.OUTCOMES, computed=arrived),
            source("labels", LABELS_TIMELY, addresses, FlinkGroup.OUTCOMES, computed=arrived),
            sink("outcomes", PREDICTION_OUTCOMES, addresses, "model", exactly_once_as="millrace-outcomes"),
        ],
        views=[
            _ENTRIES,
            _first("predictions", "entries", "request_id, model, version, arm, part"),
            _first("first_labels", "labels", "request_id, source"),
        ],
        inserts=[
            f"INSERT INTO outcomes SELECT {', '.join(of.get(name, f'p.{name}') for name in columns)} "
            "FROM predictions AS p JOIN first_labels AS l ON p.request_id = l.request_id"
        ],
        options={"table.exec.state.ttl": f"{LABEL_HORIZON_MS // DAY_MS + 1} d"},
    )
