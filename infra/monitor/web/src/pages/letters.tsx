/** Dead letters by cause: look, mend, see what would happen, send again. */
import { useMemo, useState } from "react";
import { type Catalogue, type DeadLetter, type LetterGroup, type LetterGroups, type LetterPage, query } from "../api";
import { ago, bytes, clock, count, exact } from "../format";
import { Badge, Empty, Link, PageTitle, Section, Trouble, useGet } from "../parts/basic";
import { MendLetterDialog, RedriveDialog } from "../parts/letter_dialogs";
import { type Column, Table } from "../parts/table";
import { at, go, usePlace, withParams } from "../router";

const id = (one: DeadLetter) => one.position.join("/");

export default function Letters({ topic }: { topic: string }) {
  const { params } = usePlace();
  const groups = useGet<LetterGroups>("deadletters", 2000);
  const step = params.get("step");
  const code = params.get("code");
  const columns = useMemo<Column<LetterGroup>[]>(
    () => [
      { head: "group", cell: (row) => row.group, sort: (row) => row.group },
      {
        head: "cause",
        cell: (row) => (
          <>
            <Badge kind="bad">{row.code || "unknown"}</Badge> <span className="dim">in {row.step || "?"}</span>
          </>
        ),
        sort: (row) => row.code,
      },
      { head: "waiting", cell: (row) => count(row.waiting), sort: (row) => row.waiting, right: true },
      { head: "all", cell: (row) => count(row.n), sort: (row) => row.n, right: true },
      {
        head: "last",
        cell: (row) => <time title={exact(row.last_ms)}>{ago(row.last_ms, Date.now())}</time>,
        sort: (row) => row.last_ms,
        right: true,
      },
      { head: "newest message", cell: (row) => <span className="clip">{row.message}</span> },
      { head: "goes back to", cell: (row) => row.retry_topic ?? <span className="dim">no retry topic</span> },
    ],
    [],
  );
  const rows = (groups.data?.groups ?? []).filter((row) => !topic || row.topic === topic);
  const run = groups.data?.run;
  return (
    <>
      <PageTitle name="Dead letters" path="/deadletters" only={topic} />
      {groups.error && <Trouble error={groups.error} />}
      {run && (
        <p className={run.state === "failed" ? "trouble" : "hint"} role="status">
          redrive by {run.actor}: {run.state}, {count(run.done)} of {count(run.n)} sent
          {run.refused ? `, ${count(run.refused)} not taken` : ""}
          {run.words && `; ${run.words}`}
          {run.state === "running" && <progress value={run.done} max={run.n} />}
        </p>
      )}
      {rows.length ? (
        <Table
          name="Dead letters by cause"
          rows={rows}
          columns={columns}
          rowKey={(row) => `${row.topic}/${row.step}/${row.code}`}
          chosen={(row) => row.topic === topic && row.step === step && row.code === code}
          onRow={(row) => go(`${at("deadletters", row.topic)}${query({ step: row.step, code: row.code })}`)}
        />
      ) : (
        groups.data && (
          <Empty command="./millrace tail content-v1-moderation-dlq">
            No record was set aside{topic ? " here" : ""}. One that cannot be processed comes here with its cause, and
            waits.
          </Empty>
        )
      )}
      {(groups.data?.not_shown ?? 0) > 0 && (
        <p className="hint">
          {count(groups.data!.not_shown)} older ones are on the topics, and not here: the newest 20,000 are kept in
          mind.
        </p>
      )}
      {topic && rows.length > 0 && <Waiting key={`${topic}/${step}/${code}`} topic={topic} step={step} code={code} />}
    </>
  );
}

function Waiting({ topic, step, code }: { topic: string; step: string | null; code: string | null }) {
  const { params } = usePlace();
  const waiting = params.get("all") !== "1";
  const found = useGet<LetterPage>(
    `deadletters/${encodeURIComponent(topic)}${query({ step, code, waiting: waiting || null, limit: 500 })}`,
    3000,
  );
  const most = useGet<Catalogue>("catalogue").data?.most_redrives ?? 5;
  const [chosen, setChosen] = useState<Set<string>>(new Set());
  const [open, setOpen] = useState<DeadLetter | null>(null);
  const [asking, setAsking] = useState<"chosen" | "all" | null>(null);
  const letters = found.data?.letters ?? [];
  const picked = letters.filter((one) => chosen.has(id(one)));
  const toggle = (key: string) =>
    setChosen((old) => {
      const next = new Set(old);
      if (!next.delete(key)) next.add(key);
      return next;
    });
  return (
    <Section
      title={`${step ?? "any step"}, ${code ?? "any cause"}: ${count(found.data?.n ?? 0)} letters`}
      side={
        <>
          <label className="check">
            <input
              type="checkbox"
              checked={!waiting}
              onChange={(event) => go(withParams({ all: event.target.checked ? "1" : null }), true)}
            />{" "}
            those redriven too
          </label>
          <button type="button" disabled={!picked.length} onClick={() => setAsking("chosen")}>
            Redrive {picked.length || ""} chosen…
          </button>
          <button
            type="button"
            className="main"
            disabled={!letters.some((one) => !one.redriven)}
            onClick={() => setAsking("all")}
          >
            Redrive all…
          </button>
        </>
      }
    >
      {found.error && <Trouble error={found.error} />}
      <div className="scroll">
        <table aria-label="Dead letters">
          <thead>
            <tr>
              <th scope="col">
                <input
                  type="checkbox"
                  aria-label="Choose all"
                  checked={letters.length > 0 && picked.length === letters.length}
                  onChange={(event) => setChosen(event.target.checked ? new Set(letters.map(id)) : new Set())}
                />
              </th>
              <th scope="col">record</th>
              <th scope="col">when</th>
              <th scope="col">key</th>
              <th scope="col">came from</th>
              <th scope="col">message</th>
              <th scope="col" className="right">
                tries
              </th>
              <th scope="col" className="right">
                redriven
              </th>
              <th scope="col" className="right">
                size
              </th>
              <th scope="col"> </th>
            </tr>
          </thead>
          <tbody>
            {letters.map((one) => (
              <tr key={id(one)} className={one.redriven ? "done" : ""}>
                <td>
                  <input
                    type="checkbox"
                    aria-label={`Choose ${id(one)}`}
                    checked={chosen.has(id(one))}
                    onChange={() => toggle(id(one))}
                  />
                </td>
                <td>
                  <button type="button" className="linkish" onClick={() => setOpen(one)}>
                    {one.position[1]}@{one.position[2]}
                  </button>
                </td>
                <td>
                  <time title={exact(one.at_ms)}>{clock(one.at_ms)}</time>
                </td>
                <td className="clip">{one.key}</td>
                <td className="clip">{one.origin}</td>
                <td className="clip wide">{one.message}</td>
                <td className="right">{one.attempt + 1}</td>
                <td className="right">
                  {one.redrives} of {most}
                </td>
                <td className="right">{bytes(one.bytes)}</td>
                <td>
                  {one.redriven ? (
                    <Badge kind="good">redriven {one.redriven}</Badge>
                  ) : (
                    <Link to={at("requests", one.request_id)}>way</Link>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {open && <MendLetterDialog letter={open} onClose={() => setOpen(null)} />}
      {asking && (
        <RedriveDialog
          title={
            asking === "all"
              ? `Redrive all that wait (${count(found.data?.n ?? 0)})`
              : `Redrive ${picked.length} chosen`
          }
          onClose={() => setAsking(null)}
          body={
            asking === "all"
              ? { all_of: topic, step, error_code: code }
              : {
                  letters: picked.map((one) => ({
                    topic: one.position[0],
                    partition: one.position[1],
                    offset: one.position[2],
                  })),
                }
          }
        />
      )}
    </Section>
  );
}
