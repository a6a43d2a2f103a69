/** The snapshot as it comes, for every part that looks at it: one connection a tab. */
import { useSyncExternalStore } from "react";
import type { Snapshot } from "./api";

let current: Snapshot | null = null;
let connected = false;
let state: { snapshot: Snapshot | null; connected: boolean } = { snapshot: null, connected: false };
const listeners = new Set<() => void>();
let source: EventSource | null = null;

function tell(): void {
  state = { snapshot: current, connected };
  for (const listener of listeners) listener();
}

function connect(): void {
  source = new EventSource("/api/live");
  source.onmessage = (event: MessageEvent<string>) => {
    current = JSON.parse(event.data) as Snapshot;
    connected = true;
    tell();
  };
  source.onerror = () => {
    connected = false;
    tell();
    if (source?.readyState === EventSource.CLOSED) setTimeout(connect, 3000);
  };
}

function subscribe(listener: () => void): () => void {
  if (!source && typeof EventSource !== "undefined") connect();
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
