/** A user: what is known online, what was recommended lately, and what came of it. */
import { useMemo } from "react";
import type { EntityFeatures, RecentEvent, ShownItem, UserAnswer, UserAnswers } from "../api";
import { ago, seconds } from "../format";
import { Badge, Empty, Figure, Link, PageTitle, Section, Trouble, useGet } from "../parts/basic";
import { type Column, Table } from "../parts/table";
import { at, go } from "../router";

export default function Users({ id }: { id: string }) {
  const path = encodeURIComponent(id);
  const known = useGet<EntityFeatures>(id ? `features/user/${path}` : null, 5000);
  const answers = useGet<UserAnswers>(id ? `users/${path}/recommendations` : null, 5000);
  return (
    <>
      <PageTitle name={id ? `User ${id}` : "Users"} />
      <Section title="Whose">
        <form
          className="bar"
          onSubmit={(event) => {
            event.preventDefault();
            const to = String(new FormData(event.currentTarget).get("id") ?? "").trim();
            if (to) go(at("users", to));
          }}
        >
          <label>
            user <input name="id" data-search defaultValue={id} placeholder="u-42" />
          </label>
          <button type="submit" className="main">
            Look up
          </button>
        </form>
      </Section>
      {id && (
        <>
          <Section title="Known online">
            {known.error && <Trouble error={known.error} />}
            {known.data && <Known data={known.data} />}
          </Section>
          <Section title="Recommendations">
            {answers.error && <Trouble error={answers.error} />}
            {answers.data?.answers.map((one) => (
              <Answer key={one.request_id} answer={one} />
            ))}
            {answers.data?.answers.length === 0 && (
              <Empty command={`./millrace send recommendation --user ${JSON.stringify(id)}`}>
                Nothing was recommended to this user lately.
              </Empty>
            )}
            {answers.data?.cut && <p className="dim">{answers.data.cut}</p>}
          </Section>
        </>
      )}
    </>
  );
}

function Known({ data }: { data: EntityFeatures }) {
  const columns = useMemo<Column<RecentEvent>[]>(
    () => [
      { head: "event", cell: (row) => <Badge>{row.kind}</Badge> },
      { head: "item", cell: (row) => <Link to={at("features", "item", row.item)}>{row.item}</Link> },
      { head: "when", cell: (row) => ago(row.at_ms, Date.now()) },
    ],
    [],
  );
  const rows = data.recent.map((one, number) => ({ ...one, number }));
  return (
    <>
      <dl className="figures">
        <Figure name="features" kind={data.state === "fresh" ? "" : "late"}>
          <Link to={at("features", "user", data.entity)}>{data.state}</Link>
        </Figure>
        <Figure name="newest event in them">
          {data.event_age_s === null ? "none" : `${seconds(data.event_age_s)} ago`}
        </Figure>
        <Figure name="recent events">{data.recent.length}</Figure>
      </dl>
      <Table
        name="Recent events"
        rows={rows.slice(0, 20)}
        columns={columns}
        rowKey={(row) => String((row as RecentEvent & { number: number }).number)}
      />
    </>
  );
}

function Answer({ answer }: { answer: UserAnswer }) {
  const columns = useMemo<Column<ShownItem>[]>(
    () => [
      { head: "item", cell: (row) => row.item_id },
      { head: "title", cell: (row) => row.title },
      { head: "score", cell: (row) => Number(row.score).toFixed(3), right: true },
      { head: "why", cell: (row) => row.reason },
      { head: "probability", cell: (row) => Number(row.propensity).toFixed(3), right: true },
      {
        head: "came of it",
        cell: (row) =>
          row.followed ? <Badge kind="good">followed</Badge> : row.explored ? <Badge>by chance</Badge> : "",
      },
    ],
    [],
  );
  const verdict = answer.engaged === null ? "no label yet" : answer.engaged ? "engaged" : "not engaged";
  return (
    <details open={false}>
      <summary>
        <Badge kind={answer.status === "ok" ? (answer.engaged ? "good" : "") : "bad"}>
          {answer.status === "ok" ? verdict : answer.status}
        </Badge>{" "}
        {ago(answer.at_ms, Date.now())} · by {answer.basis || "nothing"} · {answer.items.length} of {answer.candidates}{" "}
        candidates · {answer.seen} seen · {answer.model} · <Link to={at("requests", answer.request_id)}>request</Link>
      </summary>
      {answer.error && <p>{answer.error}</p>}
      {answer.notes.map((note) => (
        <p key={note} className="dim">
          {note}
        </p>
      ))}
      {answer.note && <p>The user did: {answer.note}</p>}
      <p className="dim">index {answer.index_version}</p>
      <Table name="Items" rows={answer.items} columns={columns} rowKey={(row) => row.item_id} />
    </details>
  );
}
