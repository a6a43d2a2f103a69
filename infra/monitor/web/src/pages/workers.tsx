/** Every loop: what it does, how fast, how long, how large its batches are, and what it costs. */
import { useMemo } from "react";
import type { EdgeNow, LoopNow, Process } from "../api";
import { ago, bytes, compact, count, millis, perSecond, seconds, share } from "../format";
import { useLive } from "../live";
import { Badge, Dot, Empty, Figure, Link, PageTitle, Section } from "../parts/basic";
import { Chart, Histogram, MarkKey, useHistory } from "../parts/chart";
import { type Column, Table } from "../parts/table";
import { at } from "../router";

const SHOWN = [
  "records_in_per_s",
  "queue_p50_ms",
  "queue_p99_ms",
  "compute_p50_ms",
  "compute_p95_ms",
  "compute_p99_ms",
  "busy_share",
  "cpu_share",
  "memory_bytes",
  "dead_letters_per_s",
  "chat_tokens_per_s",
  "chat_running",
];

const READS: Column<[string, EdgeNow]>[] = [
  { head: "topic", cell: ([topic]) => <Link to={at("topics", topic)}>{topic}</Link> },
  { head: "rate", cell: ([, edge]) => perSecond(edge.rate), right: true },
  { head: "behind", cell: ([, edge]) => count(edge.lag), right: true },
  { head: "oldest unread", cell: ([, edge]) => (edge.lag ? seconds(edge.lag_s) : "–"), right: true },
];

const LOOPS: Column<[string, LoopNow]>[] = [
  {
    head: "loop",
    cell: ([name, loop]) => (
      <>
        <Dot state={loop.running ? "running" : loop.state === "stopped" ? "off" : "stopped"} />{" "}
        <Link to={at("workers", name)}>{name}</Link>
      </>
    ),
  },
  {
    head: "version",
    cell: ([, loop]) => (
      <>
        {Object.entries(loop.versions).map(([model, version]) => (
          <span className="pair" key={model} title={`digest ${loop.digests[model] ?? "not said"}`}>
            {model} {version}
          </span>
        ))}
        {loop.notes.length > 0 && (
          <span title={loop.notes.join("\n")}>
            <Badge kind="late">{loop.notes.length === 1 ? "a note" : `${loop.notes.length} notes`}</Badge>
          </span>
        )}
      </>
    ),
  },
  { head: "in", cell: ([, { now }]) => perSecond(now["records_in_per_s"] ?? 0), right: true },
  {
    head: "queued p50 / p99",
    cell: ([, { now }]) => `${millis(now["queue_p50_ms"])} / ${millis(now["queue_p99_ms"])}`,
    right: true,
  },
  {
    head: "computed p50 / p99",
    cell: ([, { now }]) => `${millis(now["compute_p50_ms"])} / ${millis(now["compute_p99_ms"])}`,
    right: true,
  },
  { head: "busy", cell: ([, loop]) => share(loop.busy_share), right: true },
  { head: "in flight", cell: ([, loop]) => count(loop.in_flight), right: true },
  { head: "CPU", cell: ([, { now }]) => share(now["cpu_share"] ?? null), right: true },
  { head: "memory", cell: ([, { now }]) => (now["memory_bytes"] ? bytes(now["memory_bytes"]) : "–"), right: true },
  { head: "records since start", cell: ([, loop]) => compact(loop.totals["records_in"] ?? 0), right: true },
];

const PROCESSES: Column<Process>[] = [
  { head: "process", cell: (one) => one.name },
  { head: "pid", cell: (one) => one.pid, right: true },
  { head: "address", cell: (one) => <code>{one.address}</code> },
  {
    head: "state",
    cell: (one) => (
      <>
        <Dot state={!one.alive ? "stopped" : one.trouble ? "failing" : "running"} />{" "}
        {!one.alive ? "stopped" : one.trouble ? `crash loop: ${one.trouble}` : "running"}
      </>
    ),
  },
];

export default function Workers({ only }: { only: string }) {
  const { snapshot } = useLive();
  const all = Object.entries(snapshot?.loops ?? {}).sort(([a], [b]) => a.localeCompare(b));
  const loops = all.filter(([name, loop]) => !only || name === only || loop.task === only);
  const names = loops.map(([name]) => name).join();
  const series = useMemo(
    () => loops.flatMap(([name]) => SHOWN.map((one) => `loop/${name}/${one}`)).slice(0, 100),
    [names],
  );
  const history = useHistory(only ? series : []);
  const group = snapshot?.groups[only];
  const job = snapshot?.jobs.find((one) => `flink-${one.name}` === only);
  return (
    <>
      <PageTitle name="Workers" path="/workers" only={only}>
        {group?.wrong.map((why) => (
          <Badge key={why} kind="bad">
            {why}
          </Badge>
        ))}
      </PageTitle>
      {job && (
        <Section title={`Flink job ${job.name}`}>
          <dl className="figures">
            <Figure name="state" kind={job.state === "RUNNING" ? "" : "bad"}>
              {job.state}
            </Figure>
            <Figure name="since">{ago(job.since_ms, Date.now())}</Figure>
            <Figure name="busiest task">{share(job.busy_share)}</Figure>
            <Figure name="tasks running">
              {job.tasks["running"]} of {job.tasks["total"]}
            </Figure>
          </dl>
        </Section>
      )}
      {!loops.length && !job && snapshot && (
        <Empty
          command={
            only.startsWith("flink") ||
            ["validate", "timely", "archive", "user-sink", "item-sink", "recent-sink"].includes(only)
              ? "./millrace up --with features"
              : ["drift", "accuracy", "decide", "launch", "rollout"].includes(only)
                ? "./millrace up --with training"
                : only === "chat"
                  ? "./millrace up --with chat"
                  : "./millrace up"
          }
        >
          {only ? `No loop of ${only} runs.` : "No worker runs."}
        </Empty>
      )}
      {only && loops.map(([name, loop]) => <LoopSection key={name} name={name} loop={loop} history={history} />)}
      {only && group && Object.keys(group.edges).length > 0 && (
        <Section title="Reads">
          <Table name="What it reads" rows={Object.entries(group.edges)} columns={READS} rowKey={([topic]) => topic} />
        </Section>
      )}
      {!only && loops.length > 0 && <Table name="Loops" rows={loops} columns={LOOPS} rowKey={([name]) => name} />}
      {!only && <Gpus />}
      {!only && <Processes />}
    </>
  );
}

function LoopSection({ name, loop, history }: { name: string; loop: LoopNow; history: ReturnType<typeof useHistory> }) {
  const line = (key: string, label: string, scale = 1) => ({ series: `loop/${name}/${key}`, name: label, scale });
  const charts = useMemo(
    () => ({
      rate: [line("records_in_per_s", "in")],
      times: [
        line("queue_p50_ms", "queued p50"),
        line("queue_p99_ms", "queued p99"),
        line("compute_p50_ms", "computed p50"),
        line("compute_p95_ms", "p95"),
        line("compute_p99_ms", "p99"),
      ],
      busy: [line("busy_share", "in the step"), line("cpu_share", "processor, of a core")],
      memory: [line("memory_bytes", "resident")],
      tokens: [line("chat_tokens_per_s", "tokens per second")],
      answers: [line("chat_running", "answers at once")],
    }),
    [name],
  );
  const bins = loop.batch_rows.map(([edge, n]) => [edge === null ? "more" : `≤${edge}`, n] as [string, number]);
  return (
    <Section
      title={name}
      side={
        <>
          <Dot state={loop.running ? "running" : "stopped"} />{" "}
          {loop.running ? `running, pid ${loop.pid}` : `silent, seen ${ago(loop.at_ms, Date.now())}`}
        </>
      }
    >
      <dl className="figures">
        {Object.entries(loop.versions).map(([model, version]) => (
          <Figure key={model} name={model}>
            <Link to={at("models", model)}>{version}</Link>{" "}
            <code className="dim" title={`sha256 of its folder: ${loop.digests[model] ?? "not said"}`}>
              {loop.digests[model]?.slice(0, 12)}
            </code>
          </Figure>
        ))}
        <Figure name="in">{perSecond(loop.now["records_in_per_s"] ?? 0)}</Figure>
        <Figure name="in flight">{count(loop.in_flight)}</Figure>
        {(["records_in", "records_out", "batches", "retries", "expired", "dead_letters"] as const).map((one) => (
          <Figure key={one} name={one.replace("_", " ")} kind={one === "dead_letters" && loop.totals[one] ? "bad" : ""}>
            {compact(loop.totals[one] ?? 0)}
          </Figure>
        ))}
      </dl>
      {"chat_running" in loop.now && <ChatFigures now={loop.now} />}
      {loop.notes.length > 0 && (
        <ul className="notes" aria-label={`Notes of ${name}`}>
          {loop.notes.map((words) => (
            <li key={words}>
              <Badge kind="late">note</Badge> {words}
            </li>
          ))}
        </ul>
      )}
      {loop.paused_partitions.length > 0 && (
        <p className="hint">
          waits on {loop.paused_partitions.join(", ")}: a retry is not due, or a partition stands still
        </p>
      )}
      <div className="charts two">
        <Chart
          title="Throughput"
          unit="records/s"
          lines={charts.rate}
          data={history}
          of={name}
          height={120}
          format={perSecond}
        />
        <Chart
          title="Queued against computed"
          unit="ms"
          lines={charts.times}
          data={history}
          of={name}
          height={120}
          format={millis}
        />
        <Chart title="Busy" unit="share" lines={charts.busy} data={history} of={name} height={120} format={share} />
        <Chart title="Memory" unit="" lines={charts.memory} data={history} of={name} height={120} format={bytes} />
        {"chat_running" in loop.now && (
          <>
            <Chart
              title="Tokens"
              unit="tokens/s"
              lines={charts.tokens}
              data={history}
              of={name}
              height={120}
              format={perSecond}
            />
            <Chart
              title="Answers"
              unit=""
              lines={charts.answers}
              data={history}
              of={name}
              height={120}
              format={count}
            />
          </>
        )}
      </div>
      <MarkKey />
      <h3>Batch sizes of the last minute</h3>
      {bins.some(([, n]) => n > 0) ? (
        <Histogram bins={bins} name="batches by rows" />
      ) : (
        <p className="dim">no batch in the last minute</p>
      )}
    </Section>
  );
}

/** What a chat worker's engine does: answers at once, tokens, its KV cache, its prefix cache. */
export function ChatFigures({ now }: { now: Record<string, number> }) {
  const of = (key: string) => now[key] ?? 0;
  const prompts = of("chat_prompt_tokens_per_s");
  return (
    <dl className="figures">
      <Figure name="answers at once">{count(of("chat_running"))}</Figure>
      <Figure name="waiting">{count(of("chat_waiting"))}</Figure>
      <Figure name="tokens">{perSecond(of("chat_tokens_per_s"))}</Figure>
      <Figure name="KV cache in use">{share(of("chat_kv_tokens") / Math.max(1, of("chat_kv_limit_tokens")))}</Figure>
      <Figure name="first token p50 / p99">
        {"chat_first_token_p50_ms" in now
          ? `${millis(of("chat_first_token_p50_ms"))} / ${millis(of("chat_first_token_p99_ms"))}`
          : "–"}
      </Figure>
      <Figure name="prompt tokens from the prefix cache">
        {prompts ? share(of("chat_prefix_hit_tokens_per_s") / prompts) : "–"}
      </Figure>
    </dl>
  );
}

function Processes() {
  const { snapshot } = useLive();
  const found = snapshot?.processes ?? [];
  if (!found.length) return null;
  return (
    <Section title="Processes of the stack">
      <Table name="Processes" rows={found} columns={PROCESSES} rowKey={(one) => one.name} />
    </Section>
  );
}

function Gpus() {
  const gpus = useLive().snapshot?.gpus ?? [];
  const history = useHistory(
    useMemo(() => (gpus.length ? ["gpu/*/busy_share", "gpu/*/memory_bytes"] : []), [gpus.length]),
  );
  const lines = useMemo(
    () => ({ busy: [{ series: "gpu/*/busy_share" }], memory: [{ series: "gpu/*/memory_bytes" }] }),
    [],
  );
  if (!gpus.length) return null;
  return (
    <Section title="GPUs">
      <dl className="figures">
        {gpus.map((one) => (
          <Figure key={one.index} name={`${one.index}: ${one.name}`}>
            {share(one.busy_share)} busy, {bytes(one.memory_bytes)} of {bytes(one.memory_total_bytes)}
          </Figure>
        ))}
      </dl>
      <div className="charts two">
        <Chart title="Busy" unit="share" lines={lines.busy} data={history} height={110} format={share} />
        <Chart title="Memory" unit="" lines={lines.memory} data={history} height={110} format={bytes} />
      </div>
    </Section>
  );
}
