/** Who did what. */
import { useMemo } from "react";
import type { Act, Acts } from "../api";
import { exact } from "../format";
import { Badge, Empty, PageTitle, Trouble, useGet } from "../parts/basic";
import { type Column, Table } from "../parts/table";

export default function Audit() {
  const { data, error } = useGet<Acts>("audit", 3000);
  const columns = useMemo<Column<Act>[]>(
    () => [
      { head: "when", cell: (row) => <time>{exact(row.at_ms).slice(0, 19)}</time>, sort: (row) => row.at_ms },
      {
        head: "who",
        cell: (row) => (
          <>
            {row.actor} <span className="dim">{row.role}</span>
          </>
        ),
        sort: (row) => row.actor,
      },
      { head: "what", cell: (row) => <Badge>{row.action}</Badge>, sort: (row) => row.action },
      { head: "to", cell: (row) => row.subject, sort: (row) => row.subject },
      { head: "in words", cell: (row) => <span title={row.positions.join(", ")}>{row.words}</span> },
      {
        head: "outcome",
        cell: (row) => (
          <Badge kind={row.outcome === "done" ? "good" : row.outcome === "begun" ? "" : "bad"}>{row.outcome}</Badge>
        ),
      },
    ],
    [],
  );
  return (
    <>
      <PageTitle name="Audit" />
      {error && <Trouble error={error} />}
      {data &&
        (data.entries.length ? (
          <Table name="Audit" rows={data.entries} columns={columns} rowKey={(row) => row.audit_id} />
        ) : (
          <Empty>
            Nobody has changed anything through the monitor. Each action is a line here and a record on audit-v1, for
            ever.
          </Empty>
        ))}
    </>
  );
}
