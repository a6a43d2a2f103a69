/** Models: who was live when, beside whom, with latency and accuracy under the same axis; and what a person may do about it. */
import { useMemo, useState } from "react";
import { type AccuracyHistory, type GateReport, type Model, type Models as Answer, type ModelUpdate, post, type RegisteredVersions, type Span, type TrainingRequest } from "../api";
import { ago, clock, exact, millis, seconds, share } from "../format";
import { useLive } from "../live";
import { Badge, Dialog, Empty, Figure, JsonText, Link, Section, Trouble, useGet, RoleButton } from "../parts/basic";
import { Chart, MarkKey, useHistory } from "../parts/chart";
import { at, go, usePlace, withParams } from "../router";

const HOURS = [0.25, 1, 6, 24, 168];

export default function Models({ only }: { only: string }) {
  const { data, error } = useGet<Answer>("models", 3000);
  const { params } = usePlace();
  const hours = Number(params.get("hours") ?? 1);
  const models = (data?.models ?? []).filter((one) => !only || one.name === only);
  return (
    <>
      <div className="bar">
        <h1>{only ? <><Link to="/models">Models</Link> / {only}</> : "Models"}</h1>
        <div className="choices" role="group" aria-label="Time shown">{HOURS.map((one) => <button type="button" key={one} className={hours === one ? "on" : ""} aria-pressed={hours === one} onClick={() => go(withParams({ hours: one === 1 ? null : String(one) }), true)}>{one < 1 ? `${60 * one} min` : one < 24 ? `${one} h` : `${one / 24} d`}</button>)}</div>
      </div>
      {error && <Trouble error={error} />}
      {data && !models.length && <Empty command="./millrace models promote moderation-text FOLDER --reason &quot;…&quot;">There is no model {only}.</Empty>}
      {models.map((one) => <ModelSection key={one.name} model={one} hours={hours} whole={Boolean(only)} />)}
    </>
  );
}

function ModelSection({ model, hours, whole }: { model: Model; hours: number; whole: boolean }) {
  const [doing, setDoing] = useState<"promote" | "rollback" | "challenge" | "train" | null>(null);
  const [report, setReport] = useState<GateReport | null>(null);
  const lagging = model.answering.filter((version) => version !== model.live && !model.challengers.some((one) => one.version === version));
  return (
    <Section id={model.name} title={<Link to={at("models", model.name)}>{model.name}</Link>} side={!whole ? undefined :
      <>
        <RoleButton role="releaser" onClick={() => setDoing("promote")}>Promote…</RoleButton>
        <RoleButton role="releaser" onClick={() => setDoing("challenge")}>Canary or shadow…</RoleButton>
        <RoleButton role="releaser" onClick={() => setDoing("rollback")}>Roll back…</RoleButton>
        <RoleButton role="operator" onClick={() => setDoing("train")}>Train…</RoleButton>
      </>
    }>
      <dl className="figures">
        <Figure name="live">{model.live || "–"}</Figure>
        {model.challengers.map((one) => <Figure key={one.arm} name={`${one.arm}, ${share(one.share)} of the keys`}>{one.version}</Figure>)}
        <Figure name="workers answer with" kind={lagging.length ? "bad" : ""}>{model.answering.join(", ") || "no worker runs"}</Figure>
        <Figure name="announced">{model.updates[0] ? <span title={exact(model.updates[0].decided_ms)}>{ago(model.updates[0].decided_ms, Date.now())} by {model.updates[0].actor}</span> : "never: it is what is shipped"}</Figure>
      </dl>
      <Axis spans={model.spans} hours={hours} />
      {whole && <Under model={model} hours={hours} />}
      {whole && <Versions name={model.name} />}
      {whole && (
        <div className="columns">
          <div>
            <h3>What was announced</h3>
            {model.updates.length ? <ul className="events">{model.updates.map((one, i) => <li key={i}><time title={exact(one.decided_ms)}>{clock(one.decided_ms)}</time> <Badge kind="good">{one.version}</Badge> {one.challengers.map((c) => <Badge key={c.arm}>{c.arm} {c.version}, {share(c.share)}</Badge>)} {one.reason} <span className="dim">({one.actor})</span></li>)}</ul> : <p className="dim">nothing yet: workers answer with the shipped version</p>}
          </div>
          <div>
            <h3>What workers did</h3>
            {model.acks.length ? <ul className="events">{model.acks.map((one, i) => <li key={i}><time title={exact(one.at_ms)}>{clock(one.at_ms)}</time> <Badge kind={one.accepted ? "swap" : "refused"}>{one.accepted ? "swapped" : "refused"}</Badge> {one.worker}: {one.version}{one.arm !== "live" && ` as ${one.arm}`} {one.accepted ? <span className="dim">loaded in {millis(one.loaded_ms)}; from {one.first_offsets.map((o) => `${o.partition}@${o.offset}`).join(", ")}</span> : one.reason}</li>)}</ul> : <p className="dim">no swap yet</p>}
          </div>
        </div>
      )}
      {model.reports.length > 0 && (
        <>
          <h3>Reports of the gate</h3>
          <ul className="events">{model.reports.slice(0, whole ? 50 : 3).map((one) => <li key={one.run_key + one.kind}><time title={exact(one.at_ms)}>{clock(one.at_ms)}</time> <Badge kind={one.kind === "judged" ? "good" : "refused"}>{one.kind === "judged" ? "passed" : "refused"}</Badge> <button type="button" className="linkish" onClick={() => setReport(one)}>{one.words}</button></li>)}</ul>
        </>
      )}
      {report && <GateReportDialog found={report} onClose={() => setReport(null)} />}
      {doing && <ModelActionDialog what={doing} model={model} onClose={() => setDoing(null)} />}
    </Section>
  );
}

/** Spans of each arm on one axis; a version keeps its colour. Pure. */
export function Axis({ spans, hours, now = Date.now() }: { spans: Span[]; hours: number; now?: number }) {
  const from = now - hours * 3600_000;
  const left = (ms: number) => `${(100 * (Math.max(from, ms) - from)) / (now - from)}%`;
  const versions = [...new Set(spans.map((one) => one.version))];
  const arms = ["live", "canary", "shadow"].filter((arm) => spans.some((one) => one.arm === arm));
  return (
    <div className="axis" role="img" aria-label={spans.map((one) => `${one.arm} ${one.version} from ${one.from_ms ? exact(one.from_ms) : "the beginning"} to ${one.to_ms ? exact(one.to_ms) : "now"}: ${one.words}`).join("; ")}>
      {arms.map((arm) => (
        <div key={arm} className="lane"><span>{arm}</span><div>
          {spans.filter((one) => one.arm === arm && (one.to_ms ?? now) > from).map((one) => (
            <b key={one.from_ms} className={`v${versions.indexOf(one.version) % 6}`} style={{ left: left(one.from_ms), width: `calc(${left(one.to_ms ?? now)} - ${left(one.from_ms)})` }} title={`${one.version}, ${one.from_ms ? exact(one.from_ms) : "shipped"}: ${one.words}${one.actor && ` (${one.actor})`}`}>{one.version}</b>
          ))}
        </div></div>
      ))}
      <div className="lane ticks"><span /><div>{[0, 0.25, 0.5, 0.75].map((part) => <i key={part} style={{ left: `${100 * part}%` }}>{hours < 1 ? clock(from + part * (now - from)) : clock(from + part * (now - from)).slice(0, -3)}</i>)}</div></div>
    </div>
  );
}

/** Latency of the loops that answer with it, and accuracy where labels come. */
function Under({ model, hours }: { model: Model; hours: number }) {
  const { snapshot } = useLive();
  const loops = Object.entries(snapshot?.loops ?? {}).filter(([, loop]) => model.name in loop.versions).map(([name]) => name);
  const key = loops.join();
  const series = useMemo(() => loops.flatMap((name) => [`loop/${name}/compute_p50_ms`, `loop/${name}/compute_p99_ms`]), [key]);
  const history = useHistory(series, Math.min(60, hours * 60));
  const lines = useMemo(() => loops.flatMap((name) => [{ series: `loop/${name}/compute_p50_ms`, name: `${name} p50` }, { series: `loop/${name}/compute_p99_ms`, name: `${name} p99` }]), [key]);
  const accuracy = useGet<AccuracyHistory>(`models/${model.name}/accuracy?hours=${hours}`, 15000);
  const n = accuracy.data?.n.reduce((a, b) => a + b, 0) ?? 0;
  return (
    <>
      <Chart title="Time of a batch in the model’s step" unit="ms, of the last hour" lines={lines} data={history} height={110} format={millis} over_ms={hours * 3600_000} />
      <figure className="chart under"><figcaption>Right answers <span className="dim">share of those with a label; a bar is {seconds(60 * hours)}</span></figcaption>
        {n ? <div className="lane"><span>100 %</span><Accuracy found={accuracy.data!} /></div> : <p className="dim">{accuracy.error ? String(accuracy.error) : <>no label met an answer in this time: labels come on <Link to={at("topics", "labels-v1")}>labels-v1</Link></>}</p>}
      </figure>
      <MarkKey />
    </>
  );
}

function Accuracy({ found }: { found: AccuracyHistory }) {
  return (
    <div className="bars tall" role="img" aria-label={found.at_ms.map((ms, i) => `${clock(ms)}: ${found.n[i] ? share(found.right[i]! / found.n[i]!) : "none"}`).join(", ")}>
      {found.at_ms.map((ms, i) => <div key={ms} title={`${clock(ms)}, ${found.versions[i]}: ${found.right[i]} of ${found.n[i]}`}>{found.n[i] ? <b style={{ height: `${(100 * found.right[i]!) / found.n[i]!}%` }} /> : null}</div>)}
    </div>
  );
}

function Versions({ name }: { name: string }) {
  const { data, error } = useGet<RegisteredVersions>(`models/${name}/versions`);
  return (
    <>
      <h3>Versions in the registry</h3>
      {error && <Trouble error={error} />}
      {data?.versions.length ? (
        <div className="scroll"><table aria-label="Versions"><thead><tr><th scope="col">number</th><th scope="col">version</th><th scope="col">digest</th><th scope="col">figures</th></tr></thead><tbody>
          {data.versions.map((one) => <tr key={one.number}><td>{one.number} {one.champion && <Badge kind="good">champion</Badge>}</td><td>{one.version}</td><td><code>{one.digest.slice(0, 12)}</code></td><td>{Object.entries(one.metrics).slice(0, 6).map(([key, value]) => <span className="pair" key={key}>{key} {value === null ? "–" : value.toPrecision(4)}</span>)}</td></tr>)}
        </tbody></table></div>
      ) : data && <p className="dim">{data.registry ? "the registry holds none of this name" : <>no MLflow runs: <code>MILLRACE_MLFLOW=local ./millrace up</code> starts one. Versions answer without it too</>}</p>}
    </>
  );
}

interface Judged { labelled: number; champion: number; candidate: number; low: number; high: number }
interface Gate {
  passes?: boolean; reasons?: string[]; champion?: string; candidate?: string; offsets?: string; entries?: number; agreement?: number; time_ratio?: number; size_ratio?: number;
  accuracy?: Judged | null; parts?: Record<string, Judged | null>; changed?: [string, string, string, number, number][]; drift?: Record<string, [number, number]>; losses?: number[];
}

function GateReportDialog({ found, onClose }: { found: GateReport; onClose: () => void }) {
  const report = found.report as unknown as Gate;
  const judged = Object.entries({ "all labelled requests held back": report.accuracy, ...report.parts }).filter((one): one is [string, Judged] => Boolean(one[1]));
  return (
    <Dialog title={`Gate: ${report.candidate ?? ""} beside ${report.champion ?? ""}`} onClose={onClose} wide>
      <p><Badge kind={found.kind === "judged" ? "good" : "refused"}>{found.kind === "judged" ? "passed" : "refused"}</Badge> {found.words}</p>
      {report.reasons && report.reasons.length > 0 && <ul className="reasons">{report.reasons.map((why) => <li key={why}>{why}</li>)}</ul>}
      <dl className="figures">
        <Figure name="requests through both">{report.entries ?? "–"}</Figure><Figure name="answers agree">{report.agreement === undefined ? "–" : share(report.agreement)}</Figure>
        <Figure name="time, candidate to champion">{report.time_ratio?.toFixed(2) ?? "–"}×</Figure><Figure name="size">{report.size_ratio?.toFixed(2) ?? "–"}×</Figure><Figure name="offsets">{report.offsets ?? "–"}</Figure>
      </dl>
      {judged.length > 0 && <div className="scroll"><table aria-label="Answered right"><thead><tr><th scope="col">right answers on</th><th scope="col" className="right">labelled</th><th scope="col" className="right">champion</th><th scope="col" className="right">candidate</th><th scope="col" className="right">difference, 95 %</th></tr></thead><tbody>
        {judged.map(([name, one]) => <tr key={name}><td>{name}</td><td className="right">{one.labelled}</td><td className="right">{share(one.champion)}</td><td className="right">{share(one.candidate)}</td><td className="right">{one.low.toFixed(3)} to {one.high.toFixed(3)}</td></tr>)}
      </tbody></table></div>}
      {report.changed && report.changed.length > 0 && <><h3>Decisions that change, the largest first</h3><div className="scroll"><table aria-label="Changed decisions"><thead><tr><th scope="col">request</th><th scope="col">output</th><th scope="col" className="right">champion</th><th scope="col" className="right">candidate</th></tr></thead><tbody>
        {report.changed.map(([id, part, output, was, now]) => <tr key={id + part + output}><td><Link to={at("requests", id)}>{id}</Link> {part}</td><td>{output}</td><td className="right">{was.toFixed(3)}</td><td className="right">{now.toFixed(3)}</td></tr>)}
      </tbody></table></div></>}
      <h3>All of it</h3>
      <JsonText value={found.report} />
    </Dialog>
  );
}

const WORDS = { promote: "Promote a version", rollback: "Bring back the version before", challenge: "Canary or shadow", train: "Ask for a training run" };

function ModelActionDialog({ what, model, onClose }: { what: keyof typeof WORDS; model: Model; onClose: () => void }) {
  const [source, setSource] = useState("");
  const [reason, setReason] = useState("");
  const [arm, setArm] = useState("canary");
  const [part, setPart] = useState(10);
  const [said, setSaid] = useState<ModelUpdate | TrainingRequest | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const send = async () => {
    setBusy(true);
    setError(null);
    try {
      const body = what === "promote" ? { source, reason } : what === "challenge" ? { source: source || null, reason, arm, share: part / 100 } : { reason };
      setSaid(await post<ModelUpdate | TrainingRequest>(`models/${model.name}/${what}`, body));
    } catch (caught) {
      setError(caught);
    }
    setBusy(false);
  };
  return (
    <Dialog title={`${WORDS[what]}: ${model.name}`} onClose={onClose}>
      <form onSubmit={(event) => { event.preventDefault(); void send(); }}>
        {what === "challenge" && <label>arm<select value={arm} onChange={(event) => setArm(event.target.value)}><option value="canary">canary: answers a share of the keys</option><option value="shadow">shadow: computes beside, for the log alone</option></select></label>}
        {(what === "promote" || what === "challenge") && <label>version<input value={source} onChange={(event) => setSource(event.target.value)} required={what === "promote"} placeholder={what === "challenge" ? "a folder, shipped:NAME, hf:ID, or a number; empty ends the arm" : "a folder, shipped:NAME, hf:ID, or a number of the registry"} /></label>}
        {what === "challenge" && <label>share of the keys, %<input type="number" min={1} max={100} value={part} onChange={(event) => setPart(Number(event.target.value))} /></label>}
        <label>why<input value={reason} onChange={(event) => setReason(event.target.value)} required maxLength={500} /></label>
        {error !== null && <Trouble error={error} />}
        {said && <p role="status">done: {"run_key" in said ? said.run_key : said.version} is on the topic; what workers answer shows here</p>}
        <div className="buttons"><button type="submit" className="main" disabled={busy || said !== null}>{busy ? "…" : WORDS[what]}</button></div>
      </form>
    </Dialog>
  );
}
