/** Schemas: every version of a subject, and what changed from one to the next. */
import { useMemo } from "react";
import type { SchemaVersion, SchemaVersions, Subject, Subjects } from "../api";
import { Badge, Empty, Link, PageTitle, Section, Trouble, useGet } from "../parts/basic";
import { type Column, Table } from "../parts/table";
import { at, go, usePlace, withParams } from "../router";

/** Lines that are only in the older or only in the newer text, with those around; longest common subsequence. Pure. */
export function difference(older: string[], newer: string[]): { kind: " " | "-" | "+"; text: string }[] {
  const n = older.length;
  const m = newer.length;
  const table = Array.from({ length: n + 1 }, () => new Uint32Array(m + 1));
  for (let i = n - 1; i >= 0; i--)
    for (let j = m - 1; j >= 0; j--)
      table[i]![j] = older[i] === newer[j] ? table[i + 1]![j + 1]! + 1 : Math.max(table[i + 1]![j]!, table[i]![j + 1]!);
  const found: { kind: " " | "-" | "+"; text: string }[] = [];
  let i = 0;
  let j = 0;
  while (i < n || j < m) {
    if (i < n && j < m && older[i] === newer[j]) {
      found.push({ kind: " ", text: older[i]! });
      i++;
      j++;
    } else if (j < m && (i === n || table[i]![j + 1]! >= table[i + 1]![j]!))
      found.push({ kind: "+", text: newer[j++]! });
    else found.push({ kind: "-", text: older[i++]! });
  }
  return found;
}

export default function Schemas({ subject }: { subject: string }) {
  const list = useGet<Subjects>("schemas");
  const columns = useMemo<Column<Subject>[]>(
    () => [
      {
        head: "subject",
        cell: (row) => <Link to={at("schemas", row.subject)}>{row.subject}</Link>,
        sort: (row) => row.subject,
      },
      { head: "versions", cell: (row) => row.versions, sort: (row) => row.versions, right: true },
      {
        head: "topic",
        cell: (row) => (
          <Link to={at("topics", row.subject.replace(/-value$/, ""))}>{row.subject.replace(/-value$/, "")}</Link>
        ),
      },
    ],
    [],
  );
  if (subject) return <SubjectVersions subject={subject} />;
  return (
    <>
      <PageTitle name="Schemas" />
      {list.error && <Trouble error={list.error} />}
      {list.data &&
        (list.data.subjects.length ? (
          <Table
            name="Subjects"
            rows={list.data.subjects}
            columns={columns}
            rowKey={(row) => row.subject}
            onRow={(row) => go(at("schemas", row.subject))}
          />
        ) : (
          <Empty command="./millrace topics --provision">The registry holds no schema.</Empty>
        ))}
    </>
  );
}

function SubjectVersions({ subject }: { subject: string }) {
  const { data, error } = useGet<SchemaVersions>(`schemas/${encodeURIComponent(subject)}`);
  const { params } = usePlace();
  const versions = data?.versions ?? [];
  const newer = versions.find((one) => String(one.version) === params.get("version")) ?? versions.at(-1);
  const older =
    versions.find((one) => String(one.version) === params.get("against")) ??
    (newer ? versions[versions.indexOf(newer) - 1] : undefined);
  const text = (one: SchemaVersion) => JSON.stringify(one.schema, null, 2).split("\n");
  const lines = useMemo(
    () => (newer ? difference(older ? text(older) : text(newer), text(newer)) : []),
    [older, newer],
  );
  return (
    <>
      <PageTitle name="Schemas" path="/schemas" only={subject}>
        {data && <Badge>{data.compatibility || "no level of its own"}</Badge>}
      </PageTitle>
      {error && <Trouble error={error} />}
      {newer && (
        <Section
          title={older ? `Version ${older.version} to ${newer.version}` : `Version ${newer.version}`}
          side={
            <>
              {versions.length > 1 && (
                <label>
                  from{" "}
                  <select
                    value={older?.version ?? ""}
                    onChange={(event) => go(withParams({ against: event.target.value }), true)}
                  >
                    {versions.map((one) => (
                      <option key={one.version}>{one.version}</option>
                    ))}
                  </select>
                </label>
              )}
              <label>
                version{" "}
                <select
                  value={newer.version}
                  onChange={(event) => go(withParams({ version: event.target.value }), true)}
                >
                  {versions.map((one) => (
                    <option key={one.version}>{one.version}</option>
                  ))}
                </select>
              </label>
              <span className="dim">id {newer.id}</span>
            </>
          }
        >
          <pre className="json diff" tabIndex={0}>
            {lines.map((line, i) => (
              <span key={i} className={line.kind === "+" ? "plus" : line.kind === "-" ? "minus" : ""}>
                {line.kind} {line.text}
                {"\n"}
              </span>
            ))}
          </pre>
        </Section>
      )}
    </>
  );
}
