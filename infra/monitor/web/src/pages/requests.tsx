/** One request's whole way: where it came in, with whom it was computed, by what, with which features, and what came out. */
import type { ReadRecord, RequestWay } from "../api";
import { clock, exact, millis } from "../format";
import { withoutBytes } from "../media";
import { Badge, Empty, Figure, JsonText, Link, PageTitle, Pairs, Section, Trouble, useGet } from "../parts/basic";
import { LeftOut } from "../parts/left_out";
import { Table } from "../parts/table";
import { at, go } from "../router";
import { type Fields, isObject, listOf } from "../values";

const recordAt = ({ topic, partition, offset }: ReadRecord): string =>
  `${at("topics", topic)}?from=offset&partition=${partition}&offset=${offset}&open=${partition}:${offset}`;

const values = ({ value }: ReadRecord): Fields => (isObject(value) ? value : {});

const TOKENS = "tokens";

/** What kind of step a record is. Pure. */
export function step(record: ReadRecord): string {
  if (record.topic.endsWith("-dlq")) return "set aside";
  if (record.topic.includes("-retry-")) return "put off";
  if (record.topic.startsWith("prediction-log")) return "computed";
  if (record.topic.startsWith("prediction-outcomes")) return "met its label";
  if (record.topic.startsWith("labels")) return "labelled";
  if (record.topic.startsWith("chat-tokens")) return TOKENS;
  if (record.topic.startsWith("chat-controls")) return "cancelled";
  if ("queue_ms" in values(record)) return "answered";
  return values(record)["action"] !== undefined ? "acted on" : "came in";
}

/** The records by lane: each of its own, but all tokens of an answer together, where the first of them lies. Pure. */
export function lanes(records: ReadRecord[]): ReadRecord[][] {
  const tokens = records.filter((record) => step(record) === TOKENS);
  return records
    .filter((record) => step(record) !== TOKENS || record === tokens[0])
    .map((record) => (record === tokens[0] ? tokens : [record]));
}

/** The text of tokens as their readers see it: the highest attempt so far, each position once. Pure. */
export function streamed(records: ReadRecord[]): { text: string; tokens: number; attempts: number } {
  let [attempt, next, text] = [0, 0, ""];
  const attempts = new Set<number>();
  for (const said of records.map(values)) {
    const own = Number(said["attempt"]);
    if (!(own >= attempt)) continue; // not a number, either
    attempt = own;
    attempts.add(own);
    const known = next - Number(said["sequence"]);
    const tokens = listOf(said["tokens"]).filter(isObject);
    if (!tokens.length || known < 0) continue;
    for (const token of tokens.slice(known)) text += String(token["text"]);
    next += Math.max(0, tokens.length - known);
  }
  return { text, tokens: next, attempts: attempts.size };
}

export default function Requests({ id }: { id: string }) {
  const { data, error, isFetching } = useGet<RequestWay>(id ? `requests/${encodeURIComponent(id)}` : null);
  const records = data?.records ?? [];
  const first = records[0]?.timestamp_ms ?? 0;
  const last = records.at(-1)?.timestamp_ms ?? 0;
  const answer = records.find((record) => step(record) === "answered");
  const said = answer ? values(answer) : {};
  return (
    <>
      <PageTitle name="Requests" path="/requests" only={id} />
      <form
        className="bar"
        onSubmit={(event) => {
          event.preventDefault();
          const to = String(new FormData(event.currentTarget).get("id") ?? "").trim();
          if (to) go(at("requests", to));
        }}
      >
        <input
          data-search
          name="id"
          defaultValue={id}
          key={id}
          aria-label="Request id"
          placeholder="request id, header ce_id of every record"
          className="grow"
          spellCheck={false}
        />
        <button type="submit" className="main">
          Follow
        </button>
      </form>
      {error && <Trouble error={error} />}
      {!id && (
        <Empty command='./millrace send moderation --text "You have won"'>
          The way of one request will be here. Its id is printed by this command, and stands in the header ce_id of
          every record.
        </Empty>
      )}
      {id &&
        !records.length &&
        data?.whole !== false &&
        (isFetching ? (
          <div className="waiting">looking through the topics…</div>
        ) : (
          <Empty>No topic names this request: it was not sent, or retention has passed.</Empty>
        ))}
      {data && !data.whole && (
        <p className="hint">So far as could be read in 15 s: what came long after it may be missing.</p>
      )}
      {records.length > 0 && (
        <>
          <dl className="figures">
            <Figure name="from first to last record">{millis(last - first)}</Figure>
            {answer && (
              <>
                <Figure name="status" kind={said["status"] === "ok" ? "" : "bad"}>
                  {String(said["status"])}
                </Figure>
                <Figure name="queued">{millis(Number(said["queue_ms"]))}</Figure>
                <Figure name="computed">{millis(Number(said["compute_ms"]))}</Figure>
                <Figure name="batch of">{String(said["batch_size"])}</Figure>
                <Figure name="answered by">
                  {listOf(said["models"])
                    .filter(isObject)
                    .map((one) => `${String(one["name"])} ${String(one["version"])} (${String(one["arm"])})`)
                    .join(", ") || "no model"}
                </Figure>
              </>
            )}
          </dl>
          <TimeLine records={records} first={first} last={last} />
          {lanes(records).map(([record, ...more], i) => (
            <Section
              key={i}
              title={
                <>
                  <Badge kind={step(record!) === "set aside" ? "bad" : ""}>{step(record!)}</Badge>{" "}
                  <Link to={recordAt(record!)}>
                    {record!.topic} {record!.partition}@{record!.offset}
                  </Link>
                </>
              }
              side={
                <time title={exact(record!.timestamp_ms)}>
                  {clock(record!.timestamp_ms)} · +{millis(record!.timestamp_ms - first)}
                </time>
              }
            >
              {step(record!) === TOKENS ? <Tokens records={[record!, ...more]} /> : <RecordFacts record={record!} />}
            </Section>
          ))}
        </>
      )}
    </>
  );
}

/** The steps on one time axis; the answer's own queue and compute times as spans. */
function TimeLine({ records, first, last }: { records: ReadRecord[]; first: number; last: number }) {
  const wide = Math.max(1, last - first);
  return (
    <div
      className="axis way"
      role="img"
      aria-label={lanes(records)
        .map(([record]) => `${step(record!)} after ${record!.timestamp_ms - first} ms`)
        .join(", ")}
    >
      {lanes(records).map((lane, i) => {
        const record = lane[0]!;
        const said = values(record);
        const compute = Number(said["compute_ms"] ?? 0);
        const queue = Number(said["queue_ms"] ?? 0);
        const spans =
          step(record) === "answered"
            ? ([
                ["queue", queue, 0],
                ["compute", compute, queue],
              ] as const)
            : [];
        return (
          <div className="lane" key={i}>
            <span>{step(record)}</span>
            <div>
              {spans.map(([name, ms, after]) => (
                <b
                  key={name}
                  className={name}
                  style={{
                    left: `${Math.min(99, (100 * after) / wide)}%`,
                    width: `${Math.max(0.4, Math.min(100, (100 * ms) / wide))}%`,
                  }}
                  title={`${name} ${millis(ms)}`}
                />
              ))}
              {lane.map((one, n) => (
                <i
                  key={n}
                  className="tick"
                  style={{ left: `${Math.min(99.5, (100 * (one.timestamp_ms - first)) / wide)}%` }}
                  title={`+${one.timestamp_ms - first} ms`}
                />
              ))}
            </div>
          </div>
        );
      })}
    </div>
  );
}

function Tokens({ records }: { records: ReadRecord[] }) {
  const { text, tokens, attempts } = streamed(records);
  return (
    <>
      <p className="hint">
        {tokens} tokens in {records.length} records
        {attempts > 1 && `, by ${attempts} owners: a later one went on where the earlier had stopped`}
      </p>
      <pre>{text}</pre>
    </>
  );
}

function RecordFacts({ record }: { record: ReadRecord }) {
  const said = values(record);
  const cause = Object.entries(record.headers).filter(
    ([name]) => name.startsWith("error-") || ["attempt", "redrive", "traceparent"].includes(name),
  );
  const features = listOf(said["features"]).filter(isObject);
  const ids = listOf(said["request_ids"]);
  const shown = Object.fromEntries(
    Object.entries(said).filter(
      ([name, value]) =>
        ![
          "request_ids",
          "signals",
          "outputs",
          "origin_partitions",
          "origin_offsets",
          "features",
          "embeddings",
        ].includes(name) &&
        value !== null &&
        !(Array.isArray(value) && !value.length),
    ),
  );
  return (
    <>
      {cause.length > 0 && <Pairs of={cause} />}
      <LeftOut value={record.value} />
      {ids.length > 0 && (
        <p className="hint">
          a batch of {ids.length} entries of {new Set(ids).size} requests
        </p>
      )}
      {features.length > 0 && (
        <Table
          name="Features used"
          rows={features}
          columns={Object.keys(features[0]!).map((name) => ({
            head: name,
            cell: (one: Fields) => <code>{JSON.stringify(one[name])}</code>,
          }))}
          rowKey={(_, i) => String(i)}
        />
      )}
      <JsonText value={withoutBytes(shown)} />
    </>
  );
}
