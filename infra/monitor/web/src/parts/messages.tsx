/** A browser of a topic's messages: from the newest, the oldest, an offset, a time, or live; with a filter in the address. */
import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useRef, useState } from "react";
import { type Message, query, type RecordPage } from "../api";
import { exactly } from "../exact";
import { bytes, clock, count, exact, oneLine } from "../format";
import { ownFirst, withoutBytes } from "../media";
import { go, usePlace, withParams } from "../router";
import { shared } from "../shared";
import { notDecoded } from "../values";
import { Empty, Trouble, useGet } from "./basic";
import { RecordPanel } from "./record_panel";

/** What a link of a page of messages says. */
function useAsked(topic: string) {
  const { params } = usePlace();
  const view = {
    from: params.get("from") ?? "newest",
    partition: params.get("partition") ?? "",
    offset: params.get("offset") ?? "",
    at: params.get("at") ?? "",
    match: params.get("match") ?? "",
    limit: params.get("limit") ?? "50",
    page: params.get("page") ?? "",
  };
  const path =
    view.from === "live"
      ? null
      : `topics/${encodeURIComponent(topic)}/records${query({
          partition: view.partition,
          match: view.match,
          limit: view.limit,
          oldest: view.from === "oldest" || null,
          offset: view.from === "offset" ? view.offset || "0" : null,
          at_ms: view.from === "time" && view.at ? Date.parse(`${view.at}Z`) : null,
          after: view.from !== "newest" ? view.page : null,
          before: view.from === "newest" ? view.page : null,
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
      <form
        className="bar"
        onSubmit={(event) => {
          event.preventDefault();
          set({ match });
        }}
      >
        <label>
          from{" "}
          <select
            value={view.from}
            onChange={(event) => set({ from: event.target.value === "newest" ? null : event.target.value })}
          >
            {["newest", "oldest", "offset", "time", "live"].map((one) => (
              <option key={one}>{one}</option>
            ))}
          </select>
        </label>
        {view.from === "offset" && (
          <label>
            offset{" "}
            <input
              type="number"
              min={0}
              value={view.offset}
              onChange={(event) => set({ offset: event.target.value })}
            />
          </label>
        )}
        {view.from === "time" && (
          <label>
            UTC{" "}
            <input
              type="datetime-local"
              step={1}
              value={view.at}
              onChange={(event) => set({ at: event.target.value })}
            />
          </label>
        )}
        <label>
          partition{" "}
          <select value={view.partition} onChange={(event) => set({ partition: event.target.value })}>
            <option value="">all</option>
            {Array.from({ length: partitions }, (_, i) => (
              <option key={i}>{i}</option>
            ))}
          </select>
        </label>
        <label className="grow">
          <span className="sr">filter</span>
          <input
            data-search
            value={match}
            onChange={(event) => setMatch(event.target.value)}
            placeholder={'filter: prize  flagged=true  batch_size>10  header.ce_source:demo  "two words"'}
            spellCheck={false}
          />
        </label>
        <label>
          show{" "}
          <select value={view.limit} onChange={(event) => set({ limit: event.target.value })}>
            {["50", "200", "500"].map((one) => (
              <option key={one}>{one}</option>
            ))}
          </select>
        </label>
        <button type="submit" className="main">
          Filter
        </button>
        {view.from !== "live" && (
          <button type="button" onClick={() => void answer.refetch()}>
            Again
          </button>
        )}
        <button type="button" onClick={() => download(topic, records)} disabled={!records.length}>
          Download
        </button>
      </form>
      {answer.error && path && <Trouble error={answer.error} />}
      {view.from === "live" && (
        <p className="hint" role="status">
          {tail.state}
          {tail.missed ? ` · ${count(tail.missed)} not shown: they came faster than 200 a second` : ""}
        </p>
      )}
      <div className={open ? "split" : ""}>
        {records.length ? (
          <RecordList records={records} open={open} />
        ) : view.from === "live" ? (
          <Empty>Records will be here as they come.</Empty>
        ) : answer.isFetching ? (
          <div className="waiting">reading…</div>
        ) : (
          <Empty command={topic === "content-v1" ? './millrace send moderation --text "hello"' : "./millrace demo"}>
            {answer.data?.cut
              ? `Nothing here yet: ${answer.data.cut}. Go further.`
              : view.match
                ? `None of ${count(answer.data?.scanned ?? 0)} records matches.`
                : "This topic holds no record yet."}
          </Empty>
        )}
        {open && <RecordPanel topic={topic} position={open} />}
      </div>
      {answer.data?.next && view.from !== "live" && (
        <div className="bar">
          <span className="dim">
            {count(answer.data.scanned)} records were read
            {answer.data.cut && `; this page ends here: ${answer.data.cut}, and more lie beyond`}
          </span>
          <button
            type="button"
            onClick={() =>
              go(
                withParams({
                  page: Object.entries(answer.data!.next!)
                    .map(([p, o]) => `${p}:${o}`)
                    .join(","),
                }),
              )
            }
          >
            {view.from === "newest" ? "Older" : "Further"}
          </button>
        </div>
      )}
    </div>
  );
}

const ROW = 34;

function RecordList({ records, open }: { records: Message[]; open: string | null }) {
  const box = useRef<HTMLDivElement>(null);
  const rows = useVirtualizer({
    count: records.length,
    getScrollElement: () => box.current,
    estimateSize: () => ROW,
    overscan: 12,
  });
  return (
    <div className="list" ref={box} role="list" aria-label="Messages" data-testid="messages">
      <div style={{ height: rows.getTotalSize(), position: "relative" }}>
        {rows.getVirtualItems().map((item) => {
          const record = records[item.index]!;
          const here = `${record.partition}:${record.offset}`;
          const why = notDecoded(record.value);
          return (
            <div
              key={`${here}:${item.index}`}
              role="listitem"
              className="slot"
              style={{ transform: `translateY(${item.start}px)`, height: ROW }}
            >
              <a
                className={`row ${open === here ? "chosen" : ""} ${why === null ? "" : "bad"}`}
                href={withParams({ open: here })}
                onClick={(e) => {
                  e.preventDefault();
                  go(withParams({ open: here }), true);
                }}
              >
                <time title={exact(record.timestamp_ms)}>{clock(record.timestamp_ms)}</time>
                <span className="value">
                  {why === null ? oneLine(ownFirst(withoutBytes(record.value))) : `not decoded: ${why}`}
                </span>
                <span className="key">{oneLine(record.key, 40)}</span>
                <span className="size">{bytes(record.bytes)}</span>
                <span className="where">
                  {record.partition}@{record.offset}
                </span>
              </a>
            </div>
          );
        })}
      </div>
    </div>
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
    const end = shared(
      `/api/topics/${encodeURIComponent(topic)}/tail${query({ match })}`,
      (event) => {
        if (event.kind === "open") setState("live: the newest first");
        else if (event.kind === "lost") setState(event.data);
        else if (event.kind === "missed") setMissed((n) => n + Number(event.data));
        else {
          const said = exactly(event.data) as { record?: Message; skipped?: number; trouble?: string };
          if (said.record) fresh.push(said.record);
          if (said.skipped) setMissed((n) => n + said.skipped!);
          if (said.trouble) setState(said.trouble);
        }
      },
      true,
    );
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
  const url = URL.createObjectURL(
    new Blob([`${records.map((record) => JSON.stringify(record)).join("\n")}\n`], { type: "application/x-ndjson" }),
  );
  const link = Object.assign(document.createElement("a"), { href: url, download: `${topic}.jsonl` });
  link.click();
  URL.revokeObjectURL(url);
}
