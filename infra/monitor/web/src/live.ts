/** The snapshot as it comes, for every part that looks at it: one connection a browser. */
import { useSyncExternalStore } from "react";
import { get, type Snapshot } from "./api";
import { exactly } from "./exact";
import { shared } from "./shared";

let current: Snapshot | null = null;
let connected = false;
let state: { snapshot: Snapshot | null; connected: boolean } = { snapshot: null, connected: false };
const listeners = new Set<() => void>();
let begun = false;

function tell(): void {
  state = { snapshot: current, connected };
  for (const listener of listeners) listener();
}

function keep(snapshot: Snapshot): void {
  if (current && current.at_ms > snapshot.at_ms && connected) return;
  current = snapshot;
  connected = true;
  tell();
}

function connect(): void {
  begun = true;
  get<Snapshot>("snapshot").then(keep, () => undefined); // another tab may be the one that reads, and tells the next one only
  shared("/api/live", (said) => {
    if (said.kind === "message") keep(exactly(said.data) as Snapshot);
    else if (said.kind === "lost") {
      connected = false;
      tell();
    }
  });
}

function subscribe(listener: () => void): () => void {
  if (!begun && typeof EventSource !== "undefined") connect();
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export const useLive = (): typeof state => useSyncExternalStore(subscribe, () => state);

/** For tests: a snapshot without a server. */
export function pretend(snapshot: Snapshot): void {
  current = snapshot;
  connected = true;
  tell();
}
