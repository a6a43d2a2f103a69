/** Drift by signal against its baseline, with what was found and what counts. */
import { type Json } from "../api";
import { ago, clock, count, exact } from "../format";
import { Badge, Empty, Link, Section, Trouble, useGet } from "../parts/basic";
import { at } from "../router";

interface Finding { event_id: string; trigger: string; statistic: number; p_value: number | null; effect: number; least_effect: number; in_a_row: number; window: number; window_n: number; baseline_mean: number; window_mean: number; at_ms: number; signal: string }
interface Watched {
  detector: string; model: string; version: string; windows: number; baseline_n: number; window_n: number; seen_ms: number; streaks: Record<string, number>;
  signals: { name: string; unit: string; edges: number[]; baseline: number[]; window: number[]; findings: Finding[] }[];
}

export default function Drift() {
  const { data, error } = useGet<{ watched: Watched[]; findings: Json[] }>("drift", 4000);
  return (
    <>
      <div className="bar"><h1>Drift</h1></div>
      {error && <Trouble error={error} />}
      {data && !data.watched.length && <Empty command="./millrace up --with training">Nothing is watched yet. With the detectors up, every signal of every model version is compared with its own baseline here.</Empty>}
      {data?.watched.map((one) => (
        <Section key={`${one.detector}/${one.model}/${one.version}`} title={<><Link to={at("models", one.model)}>{one.model}</Link> {one.version} <span className="dim">by {one.detector}</span></>}
          side={<span className="dim">baseline of {count(one.baseline_n)}; window {one.windows + 1} has {count(one.window_n)}; seen {ago(one.seen_ms, Date.now())}</span>}>
          <div className="signals">
            {one.signals.map((signal) => <Signal key={signal.name} signal={signal} streaks={one.streaks} />)}
          </div>
        </Section>
      ))}
    </>
  );
}

function Signal({ signal, streaks }: { signal: Watched["signals"][number]; streaks: Record<string, number> }) {
  const most = Math.max(0.01, ...signal.baseline, ...signal.window);
  const last = signal.findings.at(-1);
  const rising = Object.entries(streaks).filter(([name, n]) => n > 0 && name.endsWith(`/${signal.name}`));
  return (
    <figure className={`signal ${last ? "found" : ""}`}>
      <figcaption>{signal.name} {rising.map(([name, n]) => <Badge key={name} kind="late">{name.split("/")[0]} {n} in a row</Badge>)}</figcaption>
      {signal.edges.length ? (
        <svg viewBox="0 0 240 70" preserveAspectRatio="none" role="img" aria-label={`${signal.name}: from ${signal.edges[0]?.toPrecision(3)} to ${signal.edges.at(-1)?.toPrecision(3)}, baseline and window`}>
          {signal.baseline.map((n, i) => <rect key={`b${i}`} className="baseline" x={i * 10} width={9} y={68 - (66 * n) / most} height={(66 * n) / most} />)}
          {signal.window.map((n, i) => <rect key={`w${i}`} className="window" x={i * 10 + 3} width={3} y={68 - (66 * n) / most} height={(66 * n) / most} />)}
        </svg>
      ) : <p className="dim">nothing measured</p>}
      <p className="hint">{signal.edges.length ? `${signal.edges[0]!.toPrecision(3)} … ${signal.edges.at(-1)!.toPrecision(3)} ${signal.unit}` : ""}</p>
      {signal.findings.slice(-3).reverse().map((one) => (
        <p key={one.event_id} className="finding"><Badge kind="bad">{one.trigger}</Badge> <time title={exact(one.at_ms)}>{clock(one.at_ms)}</time> effect {one.effect.toPrecision(3)} (counts from {one.least_effect}){one.p_value !== null && `, p ${one.p_value.toExponential(1)}`}{!signal.unit && `, mean ${one.baseline_mean.toPrecision(3)} → ${one.window_mean.toPrecision(3)}`}, {one.in_a_row} in a row</p>
      ))}
    </figure>
  );
}
