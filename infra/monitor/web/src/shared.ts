/** One connection for all tabs of a browser that want the same stream: a browser has six for one host, actions included. The tab that
 * holds the lock reads and tells the others; where it goes, the next one takes its place. */
export interface Said {
  kind: "open" | "message" | "missed" | "lost";
  data: string;
}

const TAILS = 4;
const AGAIN_MS = 3000;
const FULL = `${TAILS} tails are open in this browser already: close one of them`;

/** few: a stream of which a browser has TAILS at most, so that requests find a connection. Returns what ends it. */
export function shared(url: string, heard: (said: Said) => void, few = false): () => void {
  const ended = new AbortController();
  const { signal } = ended;
  const locks = typeof navigator === "undefined" ? undefined : navigator.locks;
  const channel = locks && typeof BroadcastChannel !== "undefined" ? new BroadcastChannel(url) : null;
  if (channel) channel.onmessage = (event: MessageEvent<Said>) => heard(event.data);
  const tell = (kind: Said["kind"], data = "") => {
    if (signal.aborted) return;
    heard({ kind, data });
    channel?.postMessage({ kind, data });
  };
  const read = () =>
    new Promise<void>((done) => {
      let source: EventSource | null = null;
      const open = () => {
        if (signal.aborted) return;
        source = new EventSource(url);
        source.onopen = () => tell("open");
        source.onmessage = (event: MessageEvent<string>) => tell("message", event.data);
        source.addEventListener("missed", (event) => tell("missed", (event as MessageEvent<string>).data));
        source.onerror = () => {
          tell("lost", "the connection was lost; trying again");
          if (source?.readyState === EventSource.CLOSED) setTimeout(open, AGAIN_MS);
        };
      };
      signal.addEventListener("abort", () => {
        source?.close();
        done();
      });
      open();
    });
  const inSlot = async (held: LockManager) => {
    while (!signal.aborted) {
      for (let slot = 0; slot < TAILS; slot++) {
        if (
          await held.request(
            `millrace-tail-${slot}`,
            { ifAvailable: true },
            async (lock) => lock !== null && read().then(() => true),
          )
        )
          return;
      }
      tell("lost", FULL);
      await new Promise((done) => setTimeout(done, AGAIN_MS));
    }
  };
  if (locks && channel)
    void locks.request(url, { signal }, () => (few ? inSlot(locks) : read())).catch(() => undefined);
  else void read();
  return () => {
    ended.abort();
    channel?.close();
  };
}
