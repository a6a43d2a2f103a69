import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { act, cleanup, configure, fireEvent, render, screen, within } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Catalogue, Snapshot, Span } from "./answers";
import { App } from "./app";
import { exactly } from "./exact";
import { ago, bytes, compact, millis, oneLine, perSecond, seconds } from "./format";
import { drawn, labelAt, rounded, topicOf, visible } from "./graph";
import { pretend } from "./live";
import { mediaType, ownFirst, withoutBytes } from "./media";
import Requests, { lanes, step, streamed } from "./pages/requests";
import { difference } from "./pages/schemas";
import { curves } from "./pages/training";
import { ChatFigures } from "./pages/workers";
import { leftOut } from "./parts/left_out";
import { MediaList } from "./parts/media";
import { Messages } from "./parts/messages";
import { Axis } from "./parts/model_charts";
import { Table } from "./parts/table";
import { go } from "./router";
import { shared } from "./shared";

configure({ asyncUtilTimeout: 20_000 }); // pages load their code first, on a machine that may be busy
const group = (over: Partial<Snapshot["groups"][string]> = {}): Snapshot["groups"][string] => ({
  state: "off",
  wrong: [],
  edges: {},
  loops: [],
  waiting: 0,
  busy_share: 0,
  versions: {},
  ...over,
});
const snapshot = (over: Partial<Snapshot> = {}): Snapshot => ({
  at_ms: 1_764_000_000_000,
  every_s: 2,
  trouble: "",
  topics: {},
  groups: {},
  loops: {},
  jobs: [],
  gpus: [],
  processes: [],
  marks: [],
  waiting: 0,
  live: {},
  ...over,
});
const answers: Record<string, unknown> = {};

beforeEach(() => {
  vi.stubGlobal(
    "fetch",
    vi.fn(async (url: string) => {
      const found = answers[String(url).replace("/api/", "").split("?")[0]!];
      return {
        ok: found !== undefined,
        status: found === undefined ? 404 : 200,
        statusText: "no such answer",
        text: async () => JSON.stringify(found ?? { code: "unknown", message: "no such answer" }),
      };
    }),
  );
  vi.stubGlobal(
    "Worker",
    class {
      postMessage() {}
      terminate() {}
    },
  );
  vi.stubGlobal(
    "EventSource",
    class {
      close() {}
      addEventListener() {}
    },
  );
});
afterEach(() => {
  cleanup();
  for (const name of Object.keys(answers)) delete answers[name];
  go("/");
});

const shown = (node: React.ReactNode) =>
  render(
    <QueryClientProvider client={new QueryClient({ defaultOptions: { queries: { retry: false } } })}>
      {node}
    </QueryClientProvider>,
  );

describe("what is larger than a browser's numbers", () => {
  it("keeps every digit, in both directions", () => {
    const numbers =
      "9007199254740991, 1.5, 1234567890123456789e2, 0.12345678901234567, 1795682.1234567890123456, -1e-7";
    const told = '"9007199254740993 \\" 12345678901234567890"';
    const text = `{"a": 9007199254740993, "b": [-9223372036854775808, ${numbers}], "c": ${told}, "d": 7}`;
    expect(exactly(text)).toEqual({
      a: "9007199254740993",
      b: [
        "-9223372036854775808",
        9007199254740991,
        1.5,
        Number("1234567890123456789e2"),
        Number("0.12345678901234567"),
        Number("1795682.1234567890123456"),
        -1e-7,
      ],
      c: '9007199254740993 " 12345678901234567890',
      d: 7,
    });
  });
});

describe("one stream of many tabs", () => {
  it("is read by the one that holds the lock, and told to the others", async () => {
    const sources: { url: string; onmessage?: (event: { data: string }) => void; closed?: boolean }[] = [];
    vi.stubGlobal(
      "EventSource",
      class {
        onmessage?: (event: { data: string }) => void;
        closed = false;
        constructor(readonly url: string) {
          sources.push(this);
        }
        addEventListener() {}
        close() {
          this.closed = true;
        }
      },
    );
    const waiting: (() => Promise<unknown>)[] = [];
    let held = false;
    const next = async (): Promise<void> => {
      const run = held ? undefined : waiting.shift();
      if (!run) return;
      held = true;
      await run();
      held = false;
      void next();
    };
    vi.stubGlobal("navigator", {
      locks: {
        request: (_: string, __: unknown, run: () => Promise<unknown>) =>
          new Promise((done) => {
            waiting.push(() => run().then(done));
            void next();
          }),
      },
    });
    const heard: string[][] = [[], []];
    const ends = heard.map((mine) => shared("/api/live", (said) => mine.push(said.data)));
    await vi.waitFor(() => expect(sources.length).toBe(1));
    sources[0]!.onmessage!({ data: "one" });
    await vi.waitFor(() => expect(heard).toEqual([["one"], ["one"]]));
    ends[0]!();
    await vi.waitFor(() => expect(sources.length).toBe(2));
    expect(sources[0]!.closed).toBe(true);
    sources[1]!.onmessage!({ data: "two" });
    expect(heard).toEqual([["one"], ["one", "two"]]);
    ends[1]!();
  });
});

describe("numbers as people read them", () => {
  it("has units, and never more digits than are known", () => {
    expect([compact(9_999), compact(12_345), compact(2_500_000)]).toEqual(["9,999", "12 k", "2.5 M"]);
    expect([seconds(0), seconds(0.25), seconds(42.4), seconds(600), seconds(7200)]).toEqual([
      "0 s",
      "250 ms",
      "42 s",
      "10 min",
      "2.0 h",
    ]);
    expect([perSecond(0), perSecond(0.4), perSecond(5000)]).toEqual(["0/s", "0.4/s", "5,000/s"]);
    expect([millis(undefined), millis(3.21), millis(1500)]).toEqual(["–", "3.2 ms", "1.50 s"]);
    expect(bytes(1536)).toBe("1.5 KiB");
    expect(ago(0, 10)).toBe("never");
    expect(oneLine({ a: "x".repeat(500) }, 20)).toHaveLength(21);
  });
});

describe("the pipeline", () => {
  const node = (id: string, kind: Catalogue["nodes"][number]["kind"], aside = false) => ({
    id,
    kind,
    name: id.split(":")[1]!,
    owner: "",
    aside,
  });
  const catalogue: Catalogue = {
    topics: [],
    models: [],
    most_redrives: 5,
    nodes: [
      node("person:producers", "person"),
      node("topic:in", "topic"),
      node("group:work", "worker"),
      node("topic:out", "topic"),
      node("topic:status", "topic", true),
      node("group:other", "processor"),
      node("topic:else", "topic"),
    ],
    edges: [
      { source: "person:producers", target: "topic:in", group: "" },
      { source: "topic:in", target: "group:work", group: "work" },
      { source: "group:work", target: "topic:out", group: "" },
      { source: "group:work", target: "topic:status", group: "" },
      { source: "topic:else", target: "group:other", group: "other" },
      { source: "topic:out", target: "person:producers", group: "" },
    ],
  };
  it("draws what runs and what it touches, and bookkeeping only when asked", () => {
    const now = snapshot({ groups: { work: group({ state: "running" }), other: group() } });
    expect(
      visible(catalogue, now, false, false)
        .nodes.map((one) => one.id)
        .sort(),
    ).toEqual(["group:work", "person:producers", "topic:in", "topic:out"]);
    expect(visible(catalogue, now, false, true).nodes.map((one) => one.id)).toContain("topic:status");
    expect(visible(catalogue, now, true, false).nodes.map((one) => one.id)).toContain("group:other");
    expect(visible(catalogue, null, false, false).nodes).toHaveLength(6);
  });
  it("names people at the topics that they write and read, in the place of lines", () => {
    const found = drawn(catalogue);
    expect(found.nodes.map((one) => one.kind)).not.toContain("person");
    expect(found.others["topic:in"]).toEqual({ from: ["producers"], to: [] });
    expect(found.others["topic:out"]).toEqual({ from: [], to: ["producers"] });
    const ids = found.nodes.map((one) => one.id);
    expect(found.edges.every((edge) => ids.includes(edge.source) && ids.includes(edge.target))).toBe(true);
    expect(found.edges).toHaveLength(4);
  });
  it("draws no line that runs back, and sets apart what models learn from", () => {
    const circle: Catalogue["edges"] = [
      ["topic:in", "group:work"],
      ["group:work", "topic:log"],
      ["topic:log", "group:drift"],
      ["group:drift", "topic:updates"],
      ["topic:updates", "group:work"],
    ].map(([source, target]) => ({ source: source!, target: target!, group: "" }));
    const kinds = { topic: "topic", group: "worker" } as const;
    const ids = ["topic:in", "group:work", "topic:log", "group:drift", "topic:updates"];
    const found = drawn({ nodes: ids.map((id) => node(id, kinds[id.split(":")[0] as "topic"])), edges: circle });
    expect(found.edges.map((edge) => `${edge.source}>${edge.target}`)).toEqual([
      "topic:in>group:work",
      "group:work>topic:log",
      "topic:log#learning>group:drift",
      "group:drift>topic:updates",
    ]);
    expect(found.others).toEqual({ "topic:updates": { from: [], to: ["work"] } });
    expect(topicOf("topic:log#learning")).toBe("log");
  });
  it("rounds corners without leaving the line", () => {
    const line = [
      { x: 0, y: 0 },
      { x: 50, y: 0 },
      { x: 50, y: 80 },
    ];
    expect(rounded(line)).toBe("M0,0L41,0Q50,0 50,9L50,80");
    expect(rounded([])).toBe("");
    expect(labelAt(line)).toEqual({ x: 50, y: 40 });
  });
});

describe("pages", () => {
  it("names each page, and goes there by keys", async () => {
    answers["catalogue"] = { topics: [], nodes: [], edges: [], models: [], most_redrives: 5 };
    answers["deadletters"] = { groups: [], run: null, not_shown: 0 };
    pretend(snapshot({ waiting: 3 }));
    shown(<App />);
    expect(within(screen.getByRole("navigation", { name: "Pages" })).getAllByRole("link").length).toBeGreaterThan(11);
    expect(screen.getByLabelText("3 waiting").textContent).toBe("3");
    fireEvent.keyDown(window, { key: "g" });
    act(() => pretend(snapshot({ waiting: 4 })));
    expect(screen.getByLabelText("4 waiting")).toBeTruthy();
    fireEvent.keyDown(window, { key: "d" });
    expect(await screen.findByRole("heading", { name: "Dead letters" })).toBeTruthy();
    expect(await screen.findByText(/No record was set aside/)).toBeTruthy();
    fireEvent.keyDown(window, { key: "?" });
    expect(screen.getByText("Keys")).toBeTruthy();
  });

  it("says so when what it shows is old", () => {
    pretend(snapshot({ trouble: "broker-unavailable: nothing answers" }));
    shown(<App />);
    expect(screen.getAllByRole("status")[0]!.textContent).toContain("nothing answers");
  });

  it("shows payloads as text, never as markup", async () => {
    const hostile = "<script>alert(1)</script><img src=x onerror=alert(2)>";
    answers["topics/t-v1/records"] = {
      records: [
        {
          topic: "t-v1",
          partition: 0,
          offset: 7,
          timestamp_ms: 1,
          key: hostile,
          headers: { [hostile]: hostile },
          value: { [hostile]: hostile },
          bytes: 9,
        },
      ],
      scanned: 1,
      next: null,
    };
    answers["topics/t-v1/records/0/7"] = (answers["topics/t-v1/records"] as { records: unknown[] }).records[0];
    Object.defineProperty(HTMLElement.prototype, "offsetHeight", { configurable: true, value: 400 });
    Object.defineProperty(HTMLElement.prototype, "offsetWidth", { configurable: true, value: 900 });
    go("/topics/t-v1?open=0:7");
    shown(<Messages topic="t-v1" partitions={1} />);
    expect((await screen.findAllByText(hostile)).length).toBeGreaterThan(0);
    expect(document.querySelectorAll("script, img")).toHaveLength(0);
  });

  it("shows a request whatever its records hold", async () => {
    const value = {
      queue_ms: 1,
      status: "ok",
      models: "m",
      features: [null, "f"],
      request_ids: 7,
      parts: "p",
      notes: 8,
    };
    const record = { topic: "t-v1", partition: 0, offset: 7, timestamp_ms: 1, key: "k", headers: {}, value };
    answers["requests/r-1"] = { request_id: "r-1", records: [record], whole: true };
    shown(<Requests id="r-1" />);
    expect(await screen.findByText("no model")).toBeTruthy();
    expect(screen.queryByRole("table")).toBeNull();
  });

  it("says what is missing, and with which command it comes", async () => {
    answers["topics/t-v1/records"] = { records: [], scanned: 0, next: null };
    go("/topics/t-v1");
    shown(<Messages topic="t-v1" partitions={1} />);
    expect(await screen.findByText("This topic holds no record yet.")).toBeTruthy();
    expect(screen.getByText("./millrace demo")).toBeTruthy();
  });
});

describe("pictures and sounds in records", () => {
  const png = "\x89PNG\r\n\x1a\n\x00\x00\xff";
  it("are known by their first bytes alone, and nothing else is", () => {
    const riff = (kind: string) => `RIFF\x10\x00\x00\x00${kind}fmt `;
    const known = [
      png,
      "\xff\xd8\xff\xe0",
      "GIF89a..",
      riff("WEBP"),
      riff("WAVE"),
      "fLaC",
      "OggS",
      "ID3\x04",
      "\xff\xfb\x90",
    ];
    expect(known.map(mediaType)).toEqual([
      "image/png",
      "image/jpeg",
      "image/gif",
      "image/webp",
      "audio/wav",
      "audio/flac",
      "audio/ogg",
      "audio/mpeg",
      "audio/mpeg",
    ]);
    const others = [
      "",
      "<svg onload=alert(1)>",
      "<!doctype html>",
      "%PDF-1.7",
      "RIFF....AVI ",
      "ID3 is a tag",
      "\x00\x00\x00 ftypmp42",
    ];
    expect(others.map(mediaType)).toEqual(others.map(() => null));
  });
  it("are shown as words, and decoded only once they are asked for", () => {
    const value = { text: "hello", image: { data: png }, cut: `${png}… (1000 more)`, embedding: "\x01\x00\x80?" };
    expect(withoutBytes(value)).toEqual({
      text: "hello",
      image: { data: "‹image/png, 11 B›" },
      cut: "‹image/png, 1,011 B›",
      embedding: "‹bytes, 4 B›",
    });
    const made: Blob[] = [];
    vi.stubGlobal(
      "URL",
      Object.assign(URL, { createObjectURL: (blob: Blob) => `blob:${made.push(blob)}`, revokeObjectURL: () => {} }),
    );
    shown(<MediaList value={value} />);
    expect(document.querySelectorAll("img, audio")).toHaveLength(0);
    fireEvent.click(screen.getByRole("button", { name: "Show picture" }));
    expect(screen.getByRole("img", { name: "image.data" }).getAttribute("src")).toBe("blob:1");
    expect([made[0]!.type, made[0]!.size]).toEqual(["image/png", 11]);
  });
  it("stand behind a record's own fields no more than its bookkeeping does", () => {
    const value = {
      request_id: "r",
      content_id: "c",
      queue_ms: 1,
      flagged: true,
      categories: ["spam"],
      batch_size: 3,
      lang: null,
    };
    expect(Object.keys(ownFirst(value) as object)).toEqual([
      "flagged",
      "categories",
      "request_id",
      "content_id",
      "queue_ms",
      "batch_size",
    ]);
  });
});

describe("what an answer does not hold of", () => {
  it("is said in sentences", () => {
    const verdict = {
      parts: [
        { part: "text", unseen: "the last 9 of its 99 characters" },
        { part: "image", unseen: null },
      ],
    };
    expect(leftOut(verdict)).toEqual(["text: the last 9 of its 99 characters"]);
    expect(leftOut({ notes: ["only its first frame"] })).toEqual(["only its first frame"]);
    expect([leftOut(null), leftOut("x"), leftOut({ parts: "x", notes: 7 })]).toEqual([[], [], []]);
  });
});

describe("parts", () => {
  it("sorts a table by its heads, and says how it is sorted", () => {
    shown(
      <Table
        name="n"
        rows={[{ v: 2 }, { v: 10 }, { v: 1 }]}
        rowKey={(row) => String(row.v)}
        columns={[{ head: "v", cell: (row) => row.v, sort: (row) => row.v, right: true }]}
      />,
    );
    fireEvent.click(screen.getByRole("button", { name: "v" }));
    expect(screen.getAllByRole("cell").map((one) => one.textContent)).toEqual(["10", "2", "1"]);
    expect(screen.getByRole("columnheader").getAttribute("aria-sort")).toBe("descending");
  });

  it("tells who was live when, in words too", () => {
    const spans: Span[] = [
      { arm: "live", version: "1", from_ms: 0, to_ms: 5_000, words: "shipped", actor: "", share: 1 },
      { arm: "live", version: "2", from_ms: 5_000, to_ms: null, words: "better", actor: "ada", share: 1 },
      { arm: "canary", version: "2", from_ms: 3_000, to_ms: 5_000, words: "passed", actor: "rollout", share: 0.2 },
    ];
    shown(<Axis spans={spans} hours={1} now={10_000} />);
    expect(screen.getByRole("img").getAttribute("aria-label")).toContain("live 2 from");
    expect(screen.getAllByTitle(/better|shipped|passed/)).toHaveLength(3);
  });

  it("finds what changed between two schemas", () => {
    expect(difference(["a", "b", "c"], ["a", "x", "c", "d"]).map((line) => line.kind + line.text)).toEqual([
      " a",
      "+x",
      "-b",
      " c",
      "+d",
    ]);
    expect(difference([], ["a"])).toEqual([{ kind: "+", text: "a" }]);
  });

  it("knows a record's place on the way of a request", () => {
    const record = (topic: string, value: Record<string, never> | Record<string, number | string>) => ({
      topic,
      partition: 0,
      offset: 0,
      timestamp_ms: 0,
      key: "",
      headers: {},
      value,
      bytes: 0,
    });
    expect(
      [
        record("content-v1", {}),
        record("content-v1-moderation-dlq", {}),
        record("content-v1-moderation-retry-1s", {}),
        record("prediction-log-v1", {}),
        record("moderation-verdicts-v1", { queue_ms: 1 }),
      ].map(step),
    ).toEqual(["came in", "set aside", "put off", "computed", "answered"]);
  });

  it("puts the tokens of an answer in one lane, and reads them as their readers do", () => {
    const tokens = (attempt: number, sequence: number, texts: string[], at = 0) => ({
      topic: "chat-tokens-v1",
      partition: 0,
      offset: at,
      timestamp_ms: at,
      key: "",
      headers: {},
      value: { attempt, sequence, tokens: texts.map((text) => ({ token: 1, text })) },
      bytes: 0,
    });
    const other = { ...tokens(0, 0, []), topic: "chat-results-v1", value: { queue_ms: 1 } };
    const records = [tokens(1, 0, ["a", "b"]), tokens(2, 0, []), tokens(1, 2, ["lost"]), tokens(2, 1, ["b", "c"])];
    expect(streamed(records)).toEqual({ text: "abc", tokens: 3, attempts: 2 });
    expect(lanes([...records, other]).map((lane) => lane.length)).toEqual([4, 1]);
    expect(streamed([{ ...other, value: null }])).toEqual({ text: "", tokens: 0, attempts: 0 });
  });

  it("shows what a chat worker's engine does", () => {
    const now = { chat_running: 3, chat_kv_tokens: 512, chat_kv_limit_tokens: 1024, chat_prompt_tokens_per_s: 10 };
    render(<ChatFigures now={{ ...now, chat_prefix_hit_tokens_per_s: 4 }} />);
    expect(screen.getByText("50 %")).toBeTruthy();
    expect(screen.getByText("40 %")).toBeTruthy();
  });

  it("reads curves from what a run says", () => {
    const event = (words: string, kind = "progress") => ({
      kind,
      words,
      at_ms: 0,
      cause: "",
      facts: {},
      run_key: "r",
      model: "m",
    });
    expect(
      curves([event("epoch 1 of 2, loss 0.5"), event("epoch 2 of 2, loss 0.25"), event("loss 9", "trained")]),
    ).toEqual({ loss: [0.5, 0.25] });
  });
});
