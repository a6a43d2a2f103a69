/** One topic: its partitions, settings and schema, and a browser of its messages. */
import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useMemo, useRef, useState } from "react";
import { type Json, type Message, post, type ProduceForm, type Produced, query, type RecordPage, type TopicPage } from "../api";
import { exactly } from "../exact";
import { bytes, clock, compact, count, exact, guarantee, oneLine, perSecond, seconds } from "../format";
import { useLive } from "../live";
import { Badge, Dialog, Empty, Figure, JsonText, Link, Trouble, useGet, RoleButton } from "../parts/basic";
import { Chart, useHistory } from "../parts/chart";
import { at, go, usePlace, withParams } from "../router";
import { shared } from "../shared";

const TABS = ["messages", "partitions", "schema", "settings"] as const;

export default function Topic({ name }: { name: string }) {
  const { params } = usePlace();
  const { snapshot } = useLive();
  const tab = params.get("tab") ?? "messages";
  const about = useGet<TopicPage>(`topics/${encodeURIComponent(name)}`, 5000);
  const [producing, setProducing] = useState(false);
  const series = useMemo(() => [`topic/${name}/rate`, `edge/*/${name}/lag`, `edge/*/${name}/lag_s`], [name]);
  const history = useHistory(series);
  const rate = useMemo(() => [{ series: `topic/${name}/rate`, name: "written" }], [name]);
  const lag = useMemo(() => [{ series: `edge/*/${name}/lag` }], [name]);
  const late = useMemo(() => [{ series: `edge/*/${name}/lag_s` }], [name]);
  const found = about.data;
  const grouped = Object.values(snapshot?.groups ?? {}).some((group) => name in group.edges);
  const now = snapshot?.topics[name];
  const newest = useGet<RecordPage>(`topics/${encodeURIComponent(name)}/records?limit=50`).data?.records ?? [];
  const mean = newest.reduce((sum, one) => sum + one.bytes, 0) / Math.max(1, newest.length);
  const kept = found?.partitions.reduce((sum, one) => sum + one.end - one.first, 0) ?? 0;
  if (about.error) return <><h1>{name}</h1><Trouble error={about.error} /></>;
  return (
    <>
      <div className="bar">
        <h1><Link to="/topics">Topics</Link> / {name}</h1>
        {found?.about && <><Badge>{guarantee(found.about.guarantee)}</Badge><Badge>{found.about.owner}</Badge></>}
        {found?.about?.kind === "topic" && found.schema !== null && found.about.writers.some((one) => one === "producers" || one === "clients") && <RoleButton role="operator" onClick={() => setProducing(true)}>Produce…</RoleButton>}
        {found?.about?.kind === "dead letters" && <Link to={at("deadletters", name)} className="button">Redrive…</Link>}
      </div>
      <dl className="figures">
        <Figure name="offsets kept">{compact(kept)}</Figure><Figure name="size of values, about"><span title="offsets kept times the mean of the newest 50 values">{bytes(Math.round(kept * mean))}</span></Figure><Figure name="rate">{perSecond(now?.rate ?? 0)}</Figure>
        <Figure name="partitions">{found?.partitions.length ?? "–"}</Figure><Figure name="key">{found?.about?.key ?? "–"}</Figure>
        <Figure name="written by">{found?.about?.writers.join(", ") ?? "–"}</Figure><Figure name="read by">{found?.about?.readers.join(", ") ?? "–"}</Figure>
      </dl>
      <div className="charts three">
        <Chart title="Written" unit="/s" lines={rate} data={history} height={90} />
        {grouped && <Chart title="Behind" unit="records" lines={lag} data={history} height={90} format={(v) => compact(Math.round(v))} />}
        {grouped && <Chart title="Oldest unread" unit="s" lines={late} data={history} height={90} format={seconds} />}
      </div>
      <div className="tabs" role="tablist">
        {TABS.map((one) => <a key={one} role="tab" aria-selected={tab === one} href={withParams({ tab: one === "messages" ? null : one })} onClick={(e) => { e.preventDefault(); go(withParams({ tab: one === "messages" ? null : one })); }}>{one}</a>)}
      </div>
      {tab === "messages" && <Messages topic={name} partitions={found?.partitions.length ?? 0} />}
      {tab === "partitions" && found && (
        <div className="scroll"><table aria-label="Partitions">
          <thead><tr><th scope="col" className="right">partition</th><th scope="col" className="right">first</th><th scope="col" className="right">end</th><th scope="col" className="right">kept</th><th scope="col">groups at (behind)</th></tr></thead>
          <tbody>{found.partitions.map((one) => (
            <tr key={one.partition}>
              <td className="right"><Link to={`${at("topics", name)}?partition=${one.partition}`}>{one.partition}</Link></td><td className="right">{count(one.first)}</td><td className="right">{count(one.end)}</td><td className="right">{count(one.end - one.first)}</td>
              <td>{Object.entries(one.groups).map(([group, position]) => <span key={group} className="pair">{group} {count(position)} ({count(Math.max(0, one.end - position))})</span>)}</td>
            </tr>
          ))}</tbody>
        </table></div>
      )}
      {tab === "schema" && found && (found.schema === null ? <Empty>Values keep the schema of the topic that they are copies of: there is none of this topic’s own.</Empty> : <><p className="hint">version {found.schema_version} of <Link to={at("schemas", found.about?.subject ?? "")}>{found.about?.subject}</Link></p><JsonText value={found.schema} /></>)}
      {tab === "settings" && found && (
        <div className="scroll"><table aria-label="Settings"><tbody>{Object.entries(found.config).sort().map(([key, value]) => <tr key={key}><th scope="row">{key}</th><td><code>{value}</code>{found.about?.config[key] === value && <Badge>ours</Badge>}</td></tr>)}</tbody></table></div>
      )}
      {producing && <ProduceDialog topic={name} onClose={() => setProducing(false)} />}
    </>
  );
}

/** What a link of a page of messages says. */
function useAsked(topic: string) {
  const { params } = usePlace();
  const view = { from: params.get("from") ?? "newest", partition: params.get("partition") ?? "", offset: params.get("offset") ?? "", at: params.get("at") ?? "", match: params.get("match") ?? "", limit: params.get("limit") ?? "50", page: params.get("page") ?? "" };
  const path = view.from === "live" ? null : `topics/${encodeURIComponent(topic)}/records${query({
    partition: view.partition, match: view.match, limit: view.limit, oldest: view.from === "oldest" || null,
    offset: view.from === "offset" ? view.offset || "0" : null, at_ms: view.from === "time" && view.at ? Date.parse(`${view.at}Z`) : null,
    after: view.from !== "newest" ? view.page : null, before: view.from === "newest" ? view.page : null,
  })}`;
  return { view, path };
}

export function Messages({ topic, partitions }: { topic: string; partitions: number }) {
  const { params } = usePlace();
  const { view, path } = useAsked(topic);
  const [match, setMatch] = useState(view.match);
  const answer = useGet<RecordPage>(path);
  const tail = useTail(topic, view.match, view.from === "live");
  const records = view.from === "live" ? tail.records : (answer.data?.records ?? []);
  const open = params.get("open");
  useEffect(() => setMatch(view.match), [view.match]);
  const set = (changes: Record<string, string | null>) => go(withParams({ page: null, ...changes }));
  return (
    <div className="browser">
      <form className="bar" onSubmit={(event) => { event.preventDefault(); set({ match }); }}>
        <label>from <select value={view.from} onChange={(event) => set({ from: event.target.value === "newest" ? null : event.target.value })}>
          {["newest", "oldest", "offset", "time", "live"].map((one) => <option key={one}>{one}</option>)}
        </select></label>
        {view.from === "offset" && <label>offset <input type="number" min={0} value={view.offset} onChange={(event) => set({ offset: event.target.value })} /></label>}
        {view.from === "time" && <label>UTC <input type="datetime-local" step={1} value={view.at} onChange={(event) => set({ at: event.target.value })} /></label>}
        <label>partition <select value={view.partition} onChange={(event) => set({ partition: event.target.value })}>
          <option value="">all</option>{Array.from({ length: partitions }, (_, i) => <option key={i}>{i}</option>)}
        </select></label>
        <label className="grow"><span className="sr">filter</span><input data-search value={match} onChange={(event) => setMatch(event.target.value)} placeholder={'filter: prize  flagged=true  batch_size>10  header.ce_source:demo  "two words"'} spellCheck={false} /></label>
        <label>show <select value={view.limit} onChange={(event) => set({ limit: event.target.value })}>{["50", "200", "500"].map((one) => <option key={one}>{one}</option>)}</select></label>
        <button type="submit" className="main">Filter</button>
        {view.from !== "live" && <button type="button" onClick={() => void answer.refetch()}>Again</button>}
        <button type="button" onClick={() => download(topic, records)} disabled={!records.length}>Download</button>
      </form>
      {answer.error && path && <Trouble error={answer.error} />}
      {view.from === "live" && <p className="hint" role="status">{tail.state}{tail.missed ? ` · ${count(tail.missed)} not shown: they came faster than 200 a second` : ""}</p>}
      <div className={open ? "split" : ""}>
        {records.length ? <RecordList records={records} open={open} /> : view.from === "live" ? <Empty>Records will be here as they come.</Empty> : answer.isFetching ? <div className="waiting">reading…</div> : <Empty command={topic === "content-v1" ? './millrace send moderation --text "hello"' : "./millrace demo"}>{answer.data?.cut ? `Nothing here yet: ${answer.data.cut}. Go further.` : view.match ? `None of ${count(answer.data?.scanned ?? 0)} records matches.` : "This topic holds no record yet."}</Empty>}
        {open && <RecordPanel topic={topic} position={open} />}
      </div>
      {answer.data?.next && view.from !== "live" && (
        <div className="bar"><span className="dim">{count(answer.data.scanned)} records were read{answer.data.cut && `; this page ends here: ${answer.data.cut}, and more lie beyond`}</span>
          <button type="button" onClick={() => go(withParams({ page: Object.entries(answer.data!.next!).map(([p, o]) => `${p}:${o}`).join(",") }))}>{view.from === "newest" ? "Older" : "Further"}</button></div>
      )}
    </div>
  );
}

const ROW = 34;

function RecordList({ records, open }: { records: Message[]; open: string | null }) {
  const box = useRef<HTMLDivElement>(null);
  const rows = useVirtualizer({ count: records.length, getScrollElement: () => box.current, estimateSize: () => ROW, overscan: 12 });
  return (
    <div className="list" ref={box} role="list" aria-label="Messages" data-testid="messages">
      <div style={{ height: rows.getTotalSize(), position: "relative" }}>
        {rows.getVirtualItems().map((item) => {
          const record = records[item.index]!;
          const here = `${record.partition}:${record.offset}`;
          const bad = record.value !== null && typeof record.value === "object" && "not_decoded" in record.value;
          return (
            <a key={`${here}:${item.index}`} role="listitem" className={`row ${open === here ? "chosen" : ""} ${bad ? "bad" : ""}`} style={{ transform: `translateY(${item.start}px)`, height: ROW }} href={withParams({ open: here })} onClick={(e) => { e.preventDefault(); go(withParams({ open: here }), true); }}>
              <span className="where">{record.partition}@{record.offset}</span><time title={exact(record.timestamp_ms)}>{clock(record.timestamp_ms)}</time>
              <span className="key">{oneLine(record.key, 40)}</span><span className="value">{bad ? `not decoded: ${String((record.value as { not_decoded: string }).not_decoded)}` : oneLine(record.value)}</span><span className="size">{bytes(record.bytes)}</span>
            </a>
          );
        })}
      </div>
    </div>
  );
}

function RecordPanel({ topic, position }: { topic: string; position: string }) {
  const [partition, offset] = position.split(":");
  const path = `topics/${encodeURIComponent(topic)}/records/${partition}/${offset}`;
  const { data, error } = useGet<Message>(path);
  const bad = data && data.value !== null && typeof data.value === "object" && "not_decoded" in data.value;
  const id = data?.headers["ce_id"];
  return (
    <aside className="one" aria-label={`Record ${position}`}>
      <header>
        <h3>{partition}@{offset}</h3>
        <a className="button" href={`/api/${path}/raw`} download>raw value</a>
        {id && <Link className="button" to={at("requests", id)}>whole way</Link>}
        <button type="button" className="quiet" aria-label="Close" onClick={() => go(withParams({ open: null }), true)}>✕</button>
      </header>
      {error && <Trouble error={error} />}
      {data && (
        <>
          {bad && <div className="trouble">This record does not decode: {String((data.value as { not_decoded: string }).not_decoded)}</div>}
          <dl className="pairs"><dt>written</dt><dd>{exact(data.timestamp_ms)}</dd><dt>key</dt><dd><code>{data.key}</code></dd><dt>size</dt><dd>{bytes(data.bytes)}</dd></dl>
          <h4>headers</h4>
          <dl className="pairs">{Object.entries(data.headers).map(([name, value]) => <div key={name}><dt>{name}</dt><dd><code>{value}</code></dd></div>)}</dl>
          <h4>value</h4>
          <JsonText value={data.value} />
        </>
      )}
    </aside>
  );
}

/** Records as they come, the newest first, never more than 500 kept. */
function useTail(topic: string, match: string, on: boolean): { records: Message[]; state: string; missed: number } {
  const [records, setRecords] = useState<Message[]>([]);
  const [state, setState] = useState("");
  const [missed, setMissed] = useState(0);
  useEffect(() => {
    if (!on) return;
    setRecords([]);
    setMissed(0);
    setState("waiting for records");
    let fresh: Message[] = [];
    const end = shared(`/api/topics/${encodeURIComponent(topic)}/tail${query({ match })}`, (event) => {
      if (event.kind === "open") setState("live: the newest first");
      else if (event.kind === "lost") setState(event.data);
      else if (event.kind === "missed") setMissed((n) => n + Number(event.data));
      else {
        const said = exactly(event.data) as { record?: Message; skipped?: number; trouble?: string };
        if (said.record) fresh.push(said.record);
        if (said.skipped) setMissed((n) => n + said.skipped!);
        if (said.trouble) setState(said.trouble);
      }
    }, true);
    const paint = setInterval(() => {
      if (!fresh.length) return;
      const taken = fresh.reverse();
      fresh = [];
      setRecords((old) => [...taken, ...old].slice(0, 500));
    }, 100);
    return () => {
      end();
      clearInterval(paint);
    };
  }, [topic, match, on]);
  return { records, state, missed };
}

function download(topic: string, records: Message[]): void {
  const url = URL.createObjectURL(new Blob([records.map((record) => JSON.stringify(record)).join("\n") + "\n"], { type: "application/x-ndjson" }));
  const link = Object.assign(document.createElement("a"), { href: url, download: `${topic}.jsonl` });
  link.click();
  URL.revokeObjectURL(url);
}

function ProduceDialog({ topic, onClose }: { topic: string; onClose: () => void }) {
  const form = useGet<ProduceForm>(`topics/${encodeURIComponent(topic)}/form`);
  const [key, setKey] = useState("");
  const [text, setText] = useState("");
  const [said, setSaid] = useState<Produced | null>(null);
  const [error, setError] = useState<unknown>(null);
  const choices = useMemo<Record<string, Json>>(() => ({ ...(form.data?.examples ?? {}), "of the schema": form.data?.example ?? null }), [form.data]);
  useEffect(() => {
    if (form.data && !text) setText(JSON.stringify(Object.values(choices)[0], null, 2));
  }, [form.data]);
  const send = async () => {
    setError(null);
    setSaid(null);
    try {
      setSaid(await post<Produced>(`topics/${encodeURIComponent(topic)}/records`, { key, value: exactly(text) as Json }));
    } catch (caught) {
      setError(caught);
    }
  };
  return (
    <Dialog title={`Produce to ${topic}`} onClose={onClose} wide>
      {form.error && <Trouble error={form.error} />}
      {form.data && (
        <form onSubmit={(event) => { event.preventDefault(); void send(); }}>
          <div className="two">
            <div>
              <label>key<input value={key} onChange={(event) => setKey(event.target.value)} /></label>
              <label>start from <select onChange={(event) => setText(JSON.stringify(choices[event.target.value], null, 2))}>{Object.keys(choices).map((one) => <option key={one}>{one}</option>)}</select></label>
              <label>value, as JSON<textarea rows={16} value={text} onChange={(event) => setText(event.target.value)} spellCheck={false} /></label>
            </div>
            <div><p className="hint">schema, version {form.data.version}; bytes are text with a character a byte, a field with a default may be left out</p><JsonText value={form.data.schema} /></div>
          </div>
          {error !== null && <Trouble error={error} />}
          {said && <p role="status">sent; <Link to={at("requests", said.request_id)}>its way through the topics</Link></p>}
          <div className="buttons"><button type="submit" className="main">Send</button></div>
        </form>
      )}
    </Dialog>
  );
}
