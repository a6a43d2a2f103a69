/** Every topic: rate, size, who reads it and how far behind. */
import { useMemo } from "react";
import type { Catalogue, TopicAbout } from "../api";
import { compact, guarantee, perSecond, seconds } from "../format";
import { useLive } from "../live";
import { Badge, Link, PageTitle, useGet } from "../parts/basic";
import { type Column, Table } from "../parts/table";
import { at, go, usePlace, withParams } from "../router";

interface Row {
  about: TopicAbout;
  records: number;
  rate: number;
  lag: number;
  lag_s: number;
  behind: string;
}

export default function Topics() {
  const { snapshot } = useLive();
  const { params } = usePlace();
  const catalogue = useGet<Catalogue>("catalogue", 5000).data; // tasks may be added and removed
  const search = params.get("q") ?? "";
  const kind = params.get("kind") ?? "topic";
  const rows = useMemo<Row[]>(() => {
    const words = search.toLowerCase();
    return (catalogue?.topics ?? [])
      .filter(
        (about) =>
          (kind === "all" || about.kind === kind) && (about.name.includes(words) || about.owner.includes(words)),
      )
      .map((about) => {
        const now = snapshot?.topics[about.name];
        const readers = Object.entries(snapshot?.groups ?? {}).flatMap(([name, group]) =>
          group.edges[about.name] ? [{ name, ...group.edges[about.name]! }] : [],
        );
        const worst = readers.sort((a, b) => b.lag - a.lag)[0];
        return {
          about,
          records: now?.records ?? 0,
          rate: now?.rate ?? 0,
          lag: worst?.lag ?? 0,
          lag_s: worst?.lag ? worst.lag_s : 0,
          behind: worst?.lag ? worst.name : "",
        };
      });
  }, [catalogue, snapshot, search, kind]);
  const columns = useMemo<Column<Row>[]>(
    () => [
      {
        head: "topic",
        cell: (row) => <Link to={at("topics", row.about.name)}>{row.about.name}</Link>,
        sort: (row) => row.about.name,
      },
      { head: "records kept", cell: (row) => compact(row.records), sort: (row) => row.records, right: true },
      { head: "rate", cell: (row) => perSecond(row.rate), sort: (row) => row.rate, right: true },
      {
        head: "behind",
        cell: (row) => (row.lag ? `${compact(row.lag)} · ${seconds(row.lag_s)} (${row.behind})` : "–"),
        sort: (row) => row.lag,
        right: true,
      },
      { head: "partitions", cell: (row) => row.about.partitions, sort: (row) => row.about.partitions, right: true },
      { head: "written by", cell: (row) => row.about.writers.join(", ") },
      {
        head: "guarantee",
        cell: (row) => <Badge>{guarantee(row.about.guarantee)}</Badge>,
        sort: (row) => row.about.guarantee,
      },
    ],
    [],
  );
  return (
    <>
      <PageTitle name="Topics">
        <input
          data-search
          type="search"
          placeholder="filter by name or owner"
          aria-label="Filter topics"
          value={search}
          onChange={(event) => go(withParams({ q: event.target.value }), true)}
        />
        <div className="choices" role="group" aria-label="Kind of topic">
          {["topic", "retry", "dead letters", "all"].map((one) => (
            <button
              key={one}
              type="button"
              className={kind === one ? "on" : ""}
              aria-pressed={kind === one}
              onClick={() => go(withParams({ kind: one === "topic" ? null : one }), true)}
            >
              {one === "topic" ? "topics" : one}
            </button>
          ))}
        </div>
      </PageTitle>
      <Table
        name="Topics"
        rows={rows}
        columns={columns}
        rowKey={(row) => row.about.name}
        onRow={(row) => go(at("topics", row.about.name))}
      />
      <p className="hint">Offsets are counted: of a topic that is written in transactions, their markers too.</p>
    </>
  );
}
