/** Who was live when, with latency and right answers under the same axis of time. */
import { useMemo } from "react";
import type { AccuracyHistory, Model, Span } from "../api";
import { clock, exact, millis, seconds, share } from "../format";
import { useLive } from "../live";
import { at } from "../router";
import { Link, useGet } from "./basic";
import { Chart, MarkKey, useHistory } from "./chart";

/** Spans of each arm on one axis; a version keeps its colour. Pure. */
export function Axis({ spans, hours, now = Date.now() }: { spans: Span[]; hours: number; now?: number }) {
  const from = now - hours * 3600_000;
  const left = (ms: number) => `${(100 * (Math.max(from, ms) - from)) / (now - from)}%`;
  const versions = [...new Set(spans.map((one) => one.version))];
  const arms = ["live", "canary", "shadow"].filter((arm) => spans.some((one) => one.arm === arm));
  return (
    <div
      className="axis"
      role="img"
      aria-label={spans
        .map(
          (one) =>
            `${one.arm} ${one.version} from ${one.from_ms ? exact(one.from_ms) : "the beginning"} ` +
            `to ${one.to_ms ? exact(one.to_ms) : "now"}: ${one.words}`,
        )
        .join("; ")}
    >
      {arms.map((arm) => (
        <div key={arm} className="lane">
          <span>{arm}</span>
          <div>
            {spans
              .filter((one) => one.arm === arm && (one.to_ms ?? now) > from)
              .map((one) => (
                <b
                  key={one.from_ms}
                  className={`v${versions.indexOf(one.version) % 6}`}
                  style={{ left: left(one.from_ms), width: `calc(${left(one.to_ms ?? now)} - ${left(one.from_ms)})` }}
                  title={`${one.version}, ${one.from_ms ? exact(one.from_ms) : "shipped"}: ${one.words}${one.actor && ` (${one.actor})`}`}
                >
                  {one.version}
                </b>
              ))}
          </div>
        </div>
      ))}
      <div className="lane ticks">
        <span />
        <div>
          {[0, 0.25, 0.5, 0.75].map((part) => (
            <i key={part} style={{ left: `${100 * part}%` }}>
              {hours < 1 ? clock(from + part * (now - from)) : clock(from + part * (now - from)).slice(0, -3)}
            </i>
          ))}
        </div>
      </div>
    </div>
  );
}

/** Latency of the loops that answer with it, and accuracy where labels come. */
export function ModelCharts({ model, hours }: { model: Model; hours: number }) {
  const { snapshot } = useLive();
  const loops = Object.entries(snapshot?.loops ?? {})
    .filter(([, loop]) => model.name in loop.versions)
    .map(([name]) => name);
  const key = loops.join();
  const series = useMemo(
    () => loops.flatMap((name) => [`loop/${name}/compute_p50_ms`, `loop/${name}/compute_p99_ms`]),
    [key],
  );
  const history = useHistory(series, Math.min(60, hours * 60));
  const lines = useMemo(
    () =>
      loops.flatMap((name) => [
        { series: `loop/${name}/compute_p50_ms`, name: `${name} p50` },
        { series: `loop/${name}/compute_p99_ms`, name: `${name} p99` },
      ]),
    [key],
  );
  const accuracy = useGet<AccuracyHistory>(`models/${model.name}/accuracy?hours=${hours}`, 15000);
  const n = accuracy.data?.n.reduce((a, b) => a + b, 0) ?? 0;
  return (
    <>
      <Chart
        title="Time of a batch in the model’s step"
        unit="ms, of the last hour"
        lines={lines}
        data={history}
        height={110}
        format={millis}
        over_ms={hours * 3600_000}
      />
      <figure className="chart under">
        <figcaption>
          Right answers <span className="dim">share of those with a label; a bar is {seconds(60 * hours)}</span>
        </figcaption>
        {n ? (
          <div className="lane">
            <span>100 %</span>
            <Accuracy found={accuracy.data!} />
          </div>
        ) : (
          <p className="dim">
            {accuracy.error ? (
              String(accuracy.error)
            ) : (
              <>
                no label met an answer in this time: labels come on{" "}
                <Link to={at("topics", "labels-v1")}>labels-v1</Link>
              </>
            )}
          </p>
        )}
      </figure>
      <MarkKey />
    </>
  );
}

function Accuracy({ found }: { found: AccuracyHistory }) {
  return (
    <div
      className="bars tall"
      role="img"
      aria-label={found.at_ms
        .map((ms, i) => `${clock(ms)}: ${found.n[i] ? share(found.right[i]! / found.n[i]!) : "none"}`)
        .join(", ")}
    >
      {found.at_ms.map((ms, i) => (
        <div key={ms} title={`${clock(ms)}, ${found.versions[i]}: ${found.right[i]} of ${found.n[i]}`}>
          {found.n[i] ? <b style={{ height: `${(100 * found.right[i]!) / found.n[i]!}%` }} /> : null}
        </div>
      ))}
    </div>
  );
}
