/** Features: how far behind each step is, what an entity's values are now, and what there is. */
import { useMemo, useState } from "react";
import type { Features as Answer, Parity as Compared, EntityFeatures, FeatureAbout } from "../api";
import { compact, seconds } from "../format";
import { Badge, Empty, Figure, Link, PageTitle, Section, Trouble, useGet } from "../parts/basic";
import { type Column, Table } from "../parts/table";
import { at, go, usePlace, withParams } from "../router";

export default function Features({ entity, id }: { entity: string; id: string }) {
  const { params } = usePlace();
  const { data, error } = useGet<Answer>("features", 5000);
  const values = useGet<EntityFeatures>(entity && id ? `features/${entity}/${encodeURIComponent(id)}` : null, 5000);
  const search = params.get("q") ?? "";
  const rows = useMemo(
    () =>
      (data?.features ?? [])
        .filter((one) => one.name.includes(search) || one.meaning.toLowerCase().includes(search.toLowerCase()))
        .filter((one) => !entity || one.entity === entity),
    [data, search, entity],
  );
  const now = values.data?.values;
  const columns = useMemo<Column<FeatureAbout>[]>(
    () => [
      { head: "feature", cell: (row) => row.name, sort: (row) => row.name },
      ...(now
        ? [
            {
              head: "value now",
              cell: (row: FeatureAbout) => <code>{JSON.stringify(now[row.name] ?? null)}</code>,
              right: true,
            },
          ]
        : []),
      { head: "of", cell: (row) => row.entity, sort: (row) => row.entity },
      { head: "type", cell: (row) => <Badge>{row.kind}</Badge>, sort: (row) => row.kind },
      { head: "default", cell: (row) => <code>{JSON.stringify(row.default)}</code> },
      { head: "meaning", cell: (row) => row.meaning },
    ],
    [now],
  );
  return (
    <>
      <PageTitle name="Features" />
      {error && <Trouble error={error} />}
      <Section title="Freshness">
        {data?.steps.some((one) => one.lag !== null) ? (
          <dl className="figures">
            {data.steps.map((one) => (
              <Figure key={one.step} name={one.step} kind={(one.lag_s ?? 0) > 30 && one.lag ? "bad" : ""}>
                {one.lag === null
                  ? "not started"
                  : one.lag
                    ? `${compact(one.lag)} · ${seconds(one.lag_s ?? 0)} behind`
                    : "up to date"}{" "}
                <Link to={at("topics", one.topic)} className="dim">
                  {one.topic}
                </Link>
              </Figure>
            ))}
          </dl>
        ) : (
          <Empty command="./millrace up --with features">
            No step of the features runs: Redis, the Flink jobs and the sinks come with this.
          </Empty>
        )}
      </Section>
      <Section title="Values of an entity">
        <form
          className="bar"
          onSubmit={(event) => {
            event.preventDefault();
            const form = new FormData(event.currentTarget);
            const to = String(form.get("id") ?? "").trim();
            if (to) go(at("features", String(form.get("entity")), to));
          }}
        >
          <label>
            entity{" "}
            <select name="entity" defaultValue={entity || "user"}>
              <option>user</option>
              <option>item</option>
            </select>
          </label>
          <label>
            id <input name="id" defaultValue={id} placeholder="u-5" />
          </label>
          <button type="submit" className="main">
            Look up
          </button>
        </form>
        {values.error && <Trouble error={values.error} />}
        {values.data && (
          <dl className="figures">
            <Figure name="state" kind={values.data.state === "fresh" ? "" : "late"}>
              {values.data.state}
            </Figure>
            <Figure name="newest event">
              {values.data.event_age_s === null ? "none" : `${seconds(values.data.event_age_s)} ago`}
            </Figure>
            <Figure name="view">{values.data.view}</Figure>
          </dl>
        )}
      </Section>
      <Parity />
      <Section
        title="What there is"
        side={
          <input
            data-search
            type="search"
            value={search}
            placeholder="filter"
            aria-label="Filter features"
            onChange={(event) => go(withParams({ q: event.target.value }), true)}
          />
        }
      >
        <Table name="Features" rows={rows} columns={columns} rowKey={(row) => `${row.view}/${row.name}`} />
      </Section>
    </>
  );
}

/** Asked for by a person: it reads both stores. */
function Parity() {
  const [asked, setAsked] = useState(0);
  const { data, error, isFetching } = useGet<Compared>(asked ? `parity?sample=${asked}` : null);
  return (
    <Section
      title="Online against offline"
      side={
        <button type="button" disabled={isFetching} onClick={() => setAsked(asked === 100 ? 101 : 100)}>
          {isFetching ? "comparing…" : "Compare a hundred entities"}
        </button>
      }
    >
      {error && <Trouble error={error} />}
      {data ? (
        <ul className="events">
          {data.views.map((one) => (
            <li key={one.view}>
              <Badge kind={one.agrees ? "good" : "bad"}>
                {one.agrees ? "the same" : Object.keys(one.different).length ? "differs" : "no proof"}
              </Badge>{" "}
              {one.view}: {one.entities} of {one.sampled} entities compared, {one.features} features each;{" "}
              {one.not_compared} changed meanwhile{" "}
              {one.problems.map((problem) => (
                <p key={problem} className="dim">
                  {problem}
                </p>
              ))}
              {Object.entries(one.different).map(([name, n]) => (
                <Badge key={name} kind="bad">
                  {name}: {n}
                </Badge>
              ))}
            </li>
          ))}
        </ul>
      ) : (
        !error && <p className="dim">every feature of a sample, in Redis and computed from the archive</p>
      )}
    </Section>
  );
}
