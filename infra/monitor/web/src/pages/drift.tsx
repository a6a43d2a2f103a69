/** Drift by signal against its baseline, with what was found and what counts. */
import type { Drift as Answer, BlindSpots, Watched } from "../api";
import { ago, clock, count, exact, significant } from "../format";
import { Badge, Empty, Link, PageTitle, Section, Trouble, useGet } from "../parts/basic";
import { at } from "../router";

export default function Drift() {
  const { data, error } = useGet<Answer>("drift", 4000);
  const blind = useGet<BlindSpots>(data?.watched.length ? "blindness" : null, 30_000);
  const unwatched = (blind.data?.detectors ?? []).filter(
    (row) =>
      !data?.watched.some(
        (one) => one.model === row.model && one.version === row.version && one.detector === row.detector,
      ),
  );
  return (
    <>
      <PageTitle name="Drift" />
      {error && <Trouble error={error} />}
      {data && !data.watched.length && (
        <Empty command="./millrace up --with training">
          Nothing is watched yet. With the detectors up, every signal of every model version is compared with its own
          baseline here.
        </Empty>
      )}
      {data?.watched.map((one) => (
        <Section
          key={`${one.detector}/${one.model}/${one.version}`}
          title={
            <>
              <Link to={at("models", one.model)}>{one.model}</Link> {one.version}{" "}
              <span className="dim">by {one.detector}</span>
            </>
          }
          side={
            <span className="dim">
              baseline of {count(one.baseline_n)}; window {one.windows + 1} has {count(one.window_n)}; seen{" "}
              {ago(one.seen_ms, Date.now())}
            </span>
          }
        >
          {one.note && <p className="hint">{one.note}</p>}
          <BlindList
            found={
              blind.data?.detectors
                .filter(
                  (row) => row.model === one.model && row.version === one.version && row.detector === one.detector,
                )
                .flatMap((row) => row.blind) ?? []
            }
          />
          <div className="signals">
            {one.signals.map((signal) => (
              <Signal key={signal.name} signal={signal} streaks={one.streaks} />
            ))}
          </div>
        </Section>
      ))}
      {unwatched.length > 0 && (
        <Section title="Not watched">
          {unwatched.map((row) => (
            <div key={`${row.detector}/${row.model}`}>
              <Link to={at("models", row.model)}>{row.model}</Link> {row.version}{" "}
              <span className="dim">by {row.detector}</span>
              <BlindList found={row.blind} />
            </div>
          ))}
        </Section>
      )}
    </>
  );
}

/** What a detector does not see: nothing found is good news only of the rest. */
function BlindList({ found }: { found: string[] }) {
  if (!found.length) return null;
  return (
    <ul className="blind" aria-label="Blind to">
      {found.map((words) => (
        <li key={words}>
          <Badge kind="late">blind</Badge> {words}
        </li>
      ))}
    </ul>
  );
}

function Signal({ signal, streaks }: { signal: Watched["signals"][number]; streaks: Record<string, number> }) {
  const most = Math.max(0.01, ...signal.baseline, ...signal.window);
  const last = signal.findings.at(-1);
  const range = `from ${significant(signal.edges[0] ?? null)} to ${significant(signal.edges.at(-1) ?? null)}`;
  const rising = Object.entries(streaks).filter(([name, n]) => n > 0 && name.endsWith(`/${signal.name}`));
  return (
    <figure className={`signal ${last ? "found" : ""}`}>
      <figcaption>
        {signal.name}{" "}
        {rising.map(([name, n]) => (
          <Badge key={name} kind="late">
            {name.split("/")[0]} {n} in a row
          </Badge>
        ))}
      </figcaption>
      {signal.edges.length ? (
        <svg
          viewBox="0 0 240 70"
          preserveAspectRatio="none"
          role="img"
          aria-label={`${signal.name}: ${range}, baseline and window`}
        >
          {signal.baseline.map((n, i) => (
            <rect
              key={`b${i}`}
              className="baseline"
              x={i * 10}
              width={9}
              y={68 - (66 * n) / most}
              height={(66 * n) / most}
            />
          ))}
          {signal.window.map((n, i) => (
            <rect
              key={`w${i}`}
              className="window"
              x={i * 10 + 3}
              width={3}
              y={68 - (66 * n) / most}
              height={(66 * n) / most}
            />
          ))}
        </svg>
      ) : (
        <p className="dim">nothing measured</p>
      )}
      <p className="hint">{signal.edges.length > 0 && `${range} ${signal.unit}`}</p>
      {signal.findings
        .slice(-3)
        .reverse()
        .map((one) => (
          <p key={one.event_id} className="finding">
            <Badge kind="bad">{one.trigger}</Badge> <time title={exact(one.at_ms)}>{clock(one.at_ms)}</time> effect{" "}
            {significant(one.effect)} (counts from {one.least_effect})
            {one.p_value !== null && `, p ${one.p_value.toExponential(1)}`}
            {!signal.unit && `, mean ${significant(one.baseline_mean)} → ${significant(one.window_mean)}`},{" "}
            {one.in_a_row} in a row
          </p>
        ))}
    </figure>
  );
}
