/** Training runs from their cause to their end: trials, curves, the gate's verdict. */
import { useMemo } from "react";
import type { Training as Answer, TrainingEvent } from "../api";
import { clock, exact, seconds } from "../format";
import { Badge, Empty, Link, PageTitle, Pairs, Section, Trouble, useGet } from "../parts/basic";
import { at } from "../router";

const KIND: Record<string, string> = {
  promoted: "good",
  judged: "good",
  refused: "refused",
  failed: "bad",
  rolled_back: "bad",
  canary: "late",
};

export default function Training({ run }: { run: string }) {
  const { data, error } = useGet<Answer>("training", 3000);
  const runs = (data?.runs ?? []).filter((one) => !run || one.run_key === run);
  return (
    <>
      <PageTitle name="Training" path="/training" only={run} />
      {error && <Trouble error={error} />}
      {data && !runs.length && (
        <Empty command="./millrace demo --drift">
          No run was asked for. Drift asks for one, or a person:{" "}
          <code>./millrace training request MODEL --reason …</code>
        </Empty>
      )}
      {runs.map((one) => (
        <Section
          key={one.run_key}
          title={<Link to={at("training", one.run_key)}>{one.run_key}</Link>}
          side={
            <>
              <Badge kind={KIND[one.state] ?? ""}>{one.state.replace("_", " ")}</Badge>
              <span className="dim">
                asked by {one.actor}, {clock(one.decided_ms)}
              </span>
            </>
          }
        >
          <p>{one.reason}</p>
          <p className="hint">
            <Link to={at("models", one.model)}>{one.model}</Link> {one.version} answered then
            {one.causes.length > 0 && (
              <>
                {" "}
                · causes: {one.causes.slice(0, 4).join(", ")}
                {one.causes.length > 4 && ` and ${one.causes.length - 4} more`}
              </>
            )}
            {one.passed_over > 0 && ` · ${one.passed_over} further findings asked for nothing new`}
          </p>
          <Curves events={one.events} />
          <ol className="events">
            {one.events
              .filter((event) => run || event.kind !== "progress")
              .map((event, i, kept) => (
                <li key={i}>
                  <time title={exact(event.at_ms)}>{clock(event.at_ms)}</time>{" "}
                  <Badge kind={KIND[event.kind] ?? ""}>{event.kind.replace("_", " ")}</Badge> {event.words}{" "}
                  {i > 0 && <span className="dim">+{seconds((event.at_ms - kept[i - 1]!.at_ms) / 1000)}</span>}
                </li>
              ))}
          </ol>
          {run && Object.keys(one.options).length > 0 && <Pairs of={Object.entries(one.options)} />}
        </Section>
      ))}
    </>
  );
}

/** Numbers that the words of progress events name (`loss 0.123`), a line each. Pure. */
export function curves(events: TrainingEvent[]): Record<string, number[]> {
  const found: Record<string, number[]> = {};
  for (const event of events) {
    if (event.kind !== "progress") continue;
    for (const [, name, text] of event.words.matchAll(/\b(loss|accuracy|score|objective)\s+(-?\d+(?:\.\d+)?)/g))
      found[name!] = [...(found[name!] ?? []), Number(text)];
  }
  return Object.fromEntries(Object.entries(found).filter(([, values]) => values.length > 1));
}

function Curves({ events }: { events: TrainingEvent[] }) {
  const found = useMemo(() => Object.entries(curves(events)).slice(0, 6), [events]);
  if (!found.length) return null;
  return (
    <div className="curves">
      {found.map(([name, values]) => {
        const low = Math.min(...values);
        const high = Math.max(...values);
        const points = values
          .map((v, i) => `${(100 * i) / (values.length - 1)},${38 - (36 * (v - low)) / (high - low || 1)}`)
          .join(" ");
        return (
          <figure key={name}>
            <figcaption>
              {name} <b>{values.at(-1)!.toPrecision(4)}</b>
            </figcaption>
            <svg
              viewBox="0 0 100 40"
              preserveAspectRatio="none"
              role="img"
              aria-label={`${name}: ${values.map((v) => v.toPrecision(3)).join(", ")}`}
            >
              <polyline points={points} />
            </svg>
          </figure>
        );
      })}
    </div>
  );
}
