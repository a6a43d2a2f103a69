/** The monitor's interface: types of what it answers, and the two calls. Payloads are text and are only ever shown as text. */

import { exactly } from "./exact";

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

export interface Edge { rate: number; lag: number; lag_s: number }
export interface Group {
  state: "running" | "stopped" | "failing" | "off";
  wrong: string[];
  edges: Record<string, Edge>;
  loops: string[];
  waiting: number;
  busy_share: number;
  versions: Record<string, string>;
}
export interface Loop {
  kind: string; task: string; state: string; pid: number; at_ms: number; running: boolean; busy_share: number; in_flight: number;
  versions: Record<string, string>; paused_partitions: string[];
  totals: Record<string, number>; now: Record<string, number>; batch_rows: [number | null, number][];
}
export interface Mark { at_ms: number; kind: string; who: string; words: string }
export interface Snapshot {
  at_ms: number; every_s: number; trouble: string;
  topics: Record<string, { records: number; partitions: number; rate: number }>;
  groups: Record<string, Group>;
  loops: Record<string, Loop>;
  jobs: { name: string; state: string; since_ms: number; tasks: Record<string, number>; busy_share: number }[];
  gpus: { index: string; name: string; busy_share: number; memory_bytes: number; memory_total_bytes: number }[];
  processes: { name: string; pid: number; address: string; alive: boolean; trouble: string }[];
  marks: Mark[];
  waiting: number;
  live: Record<string, { version: string; challengers: Challenger[]; decided_ms: number }>;
}
export interface Challenger { arm: string; version: string; uri: string; share: number }
export interface TopicAbout {
  name: string; kind: "topic" | "retry" | "dead letters"; owner: string; partitions: number; config: Record<string, string>;
  record: string | null; key: string; subject: string; guarantee: string; writers: string[]; readers: string[];
  compatibility: string; aside: boolean;
}
export interface GraphNode { id: string; kind: "topic" | "worker" | "processor" | "job" | "store" | "person"; name: string; owner: string; aside: boolean }
export interface Catalogue {
  topics: TopicAbout[]; nodes: GraphNode[]; edges: { source: string; target: string; group: string }[];
  models: { name: string; version: string }[]; most_redrives: number;
}
export interface Message {
  topic: string; partition: number; offset: number; timestamp_ms: number; key: string; headers: Record<string, string>;
  value: Json; bytes: number;
}
export interface Letter {
  position: [string, number, number]; at_ms: number; key: string; group: string; code: string; message: string; step: string;
  worker: string; origin: string; attempt: number; redrives: number; request_id: string; bytes: number; redriven: string | null;
}
export interface LetterGroup {
  topic: string; group: string; step: string; code: string; n: number; waiting: number; first_ms: number; last_ms: number;
  message: string; retry_topic: string | null;
}
export interface Run { state: string; n: number; done: number; refused: number; actor: string; words: string }
export interface Span { arm: string; version: string; from_ms: number; to_ms: number | null; words: string; actor: string; share: number }
export interface Report {
  run_key: string; at_ms: number; kind: string; words: string;
  report: { [key: string]: Json };
}
export interface Model {
  name: string; live: string; challengers: Challenger[]; answering: string[]; spans: Span[];
  updates: { at_ms: number; version: string; uri: string; reason: string; actor: string; decided_ms: number; challengers: Challenger[] }[];
  acks: { at_ms: number; version: string; worker: string; accepted: boolean; reason: string | null; loaded_ms: number; arm: string;
    first_offsets: { topic: string; partition: number; offset: number }[] }[];
  reports: Report[];
}

export class Refused extends Error {
  constructor(readonly status: number, readonly code: string, message: string) {
    super(message);
  }
}

const SESSION = "millrace-session";
export interface Session { token: string; actor: string; role: string }

/** Kept for this tab only. */
export function session(): Session | null {
  try {
    return JSON.parse(sessionStorage.getItem(SESSION) ?? "null") as Session | null;
  } catch {
    return null;
  }
}

export function keepSession(found: Session | null): void {
  if (found) sessionStorage.setItem(SESSION, JSON.stringify(found));
  else sessionStorage.removeItem(SESSION);
  window.dispatchEvent(new Event("millrace-session"));
}

async function answer<T>(response: Response): Promise<T> {
  const body: unknown = await response.text().then(exactly).catch(() => ({}));
  if (response.ok) return body as T;
  const { code = "error", message = response.statusText } = body as { code?: string; message?: string };
  throw new Refused(response.status, code, message);
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return answer<T>(await fetch(`/api/${path}`, signal ? { signal } : {}));
}

/** What a token unlocks. */
export async function post<T>(path: string, body: unknown, as: Session | null = session()): Promise<T> {
  const headers: Record<string, string> = { "Content-Type": "application/json" };
  if (as) headers["Authorization"] = `Bearer ${as.token}`;
  return answer<T>(await fetch(`/api/${path}`, { method: "POST", headers, body: JSON.stringify(body) }));
}

export const query = (params: Record<string, string | number | boolean | null | undefined>): string => {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) if (value !== null && value !== undefined && value !== "") found.set(name, String(value));
  const text = found.toString();
  return text ? `?${text}` : "";
};
