/** The frame: where one can go, whether what is seen is fresh, keys, and the page itself. */
import { lazy, type ReactNode, Suspense, useEffect, useRef, useState } from "react";
import { ago, clock } from "./format";
import { useLive } from "./live";
import { Dialog, Link, Unlock, useSession } from "./parts/basic";
import { follow, go, usePlace } from "./router";

const Pipeline = lazy(() => import("./pages/pipeline"));
const Topics = lazy(() => import("./pages/topics"));
const Topic = lazy(() => import("./pages/topic"));
const Requests = lazy(() => import("./pages/requests"));
const Workers = lazy(() => import("./pages/workers"));
const Letters = lazy(() => import("./pages/letters"));
const Models = lazy(() => import("./pages/models"));
const Drift = lazy(() => import("./pages/drift"));
const Training = lazy(() => import("./pages/training"));
const Features = lazy(() => import("./pages/features"));
const Users = lazy(() => import("./pages/users"));
const Schemas = lazy(() => import("./pages/schemas"));
const Connectors = lazy(() => import("./pages/connectors"));
const Audit = lazy(() => import("./pages/audit"));

interface Page {
  path: string;
  name: string;
  key: string;
  page: (rest: string[]) => ReactNode;
}
export const PAGES: Page[] = [
  { path: "", name: "Pipeline", key: "p", page: () => <Pipeline /> },
  {
    path: "topics",
    name: "Topics",
    key: "t",
    page: ([name]) => (name ? <Topic key={name} name={name} /> : <Topics />),
  },
  { path: "requests", name: "Requests", key: "r", page: ([id]) => <Requests id={id ?? ""} /> },
  { path: "workers", name: "Workers", key: "w", page: ([name]) => <Workers only={name ?? ""} /> },
  { path: "deadletters", name: "Dead letters", key: "d", page: ([topic]) => <Letters topic={topic ?? ""} /> },
  { path: "models", name: "Models", key: "m", page: ([name]) => <Models only={name ?? ""} /> },
  { path: "drift", name: "Drift", key: "x", page: () => <Drift /> },
  { path: "training", name: "Training", key: "n", page: ([run]) => <Training run={run ?? ""} /> },
  {
    path: "features",
    name: "Features",
    key: "f",
    page: ([entity, id]) => <Features entity={entity ?? ""} id={id ?? ""} />,
  },
  { path: "users", name: "Users", key: "u", page: ([id]) => <Users key={id} id={id ?? ""} /> },
  { path: "schemas", name: "Schemas", key: "s", page: ([subject]) => <Schemas subject={subject ?? ""} /> },
  { path: "connectors", name: "Connectors", key: "c", page: () => <Connectors /> },
  { path: "audit", name: "Audit", key: "a", page: () => <Audit /> },
];

const GO_LIMIT_MS = 1200; // between `g` and the key of a page

const typing = (event: KeyboardEvent): boolean =>
  event.target instanceof HTMLElement &&
  (event.target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName));

// Rendering anew between two keys, as each live snapshot does, does not forget the first. The times are those of the presses, so
// a busy page may be late with both.
export function useKeys(help: () => void): void {
  const latestHelp = useRef(help);
  latestHelp.current = help;
  useEffect(() => {
    let goPressedMs = Number.NEGATIVE_INFINITY;
    const pressed = (event: KeyboardEvent) => {
      if (event.metaKey || event.ctrlKey || event.altKey || typing(event)) return;
      if (event.timeStamp - goPressedMs < GO_LIMIT_MS) {
        goPressedMs = Number.NEGATIVE_INFINITY;
        const page = PAGES.find((one) => one.key === event.key);
        if (page) {
          event.preventDefault();
          go(`/${page.path}`);
          return;
        }
      }
      if (event.key === "g") goPressedMs = event.timeStamp;
      else if (event.key === "?") latestHelp.current();
      else if (event.key === "/") {
        event.preventDefault();
        (
          document.querySelector<HTMLInputElement>("[data-search]") ?? document.querySelector<HTMLInputElement>("#jump")
        )?.focus();
      }
    };
    window.addEventListener("keydown", pressed);
    return () => window.removeEventListener("keydown", pressed);
  }, []);
}

export function App() {
  const { path } = usePlace();
  const { snapshot, connected } = useLive();
  const mine = useSession();
  const [shown, setShown] = useState<"" | "help" | "unlock">("");
  useKeys(() => setShown("help"));
  const [first = "", ...rest] = path;
  const page = PAGES.find((one) => one.path === first);
  useEffect(() => {
    document.title = `${page?.name ?? "Not found"} · Millrace`;
  }, [page]);
  const stale = snapshot !== null && (!connected || Boolean(snapshot.trouble));
  return (
    <div className="frame">
      <a className="skip" href="#main">
        To the page
      </a>
      <nav aria-label="Pages">
        <Link to="/" className="brand">
          <img src="/icon.svg" alt="" width={24} height={24} /> Millrace
        </Link>
        <ul>
          {PAGES.map((one) => (
            <li key={one.path}>
              <a href={`/${one.path}`} aria-current={one === page ? "page" : undefined} onClick={follow}>
                {one.name}
                {one.path === "deadletters" && snapshot && snapshot.waiting > 0 && (
                  <span className="count" role="img" aria-label={`${snapshot.waiting} waiting`}>
                    {snapshot.waiting}
                  </span>
                )}
              </a>
            </li>
          ))}
        </ul>
        <div className="foot">
          <button type="button" className="quiet" onClick={() => setShown("unlock")}>
            {mine ? `${mine.actor}, ${mine.role}` : "read-only"}
          </button>
          <button type="button" className="quiet" onClick={() => setShown("help")} aria-label="Keys">
            ?
          </button>
        </div>
      </nav>
      <main id="main" tabIndex={-1}>
        <div className={`state ${stale ? "bad" : ""}`} role="status">
          {snapshot === null
            ? "connecting…"
            : !connected
              ? `the monitor does not answer; seen ${ago(snapshot.at_ms, Date.now())}`
              : snapshot.trouble
                ? snapshot.trouble
                : `live · ${clock(snapshot.at_ms)}`}
          <form
            className="jump"
            onSubmit={(event) => {
              event.preventDefault();
              jump(new FormData(event.currentTarget).get("to"));
            }}
          >
            <input
              id="jump"
              name="to"
              placeholder="request id or topic  /"
              aria-label="Go to a request id or topic"
              autoComplete="off"
              spellCheck={false}
            />
          </form>
        </div>
        <Suspense
          fallback={
            <div className="waiting" role="status">
              loading…
            </div>
          }
        >
          {page ? (
            page.page(rest)
          ) : (
            <div className="empty">
              <p>There is no page {location.pathname}.</p>
              <Link to="/">To the pipeline</Link>
            </div>
          )}
        </Suspense>
      </main>
      {shown === "help" && (
        <Dialog title="Keys" onClose={() => setShown("")}>
          <dl className="keys">
            <dt>
              <kbd>/</kbd>
            </dt>
            <dd>search on this page, or go to a request id or topic</dd>
            {PAGES.map((one) => (
              <div key={one.key}>
                <dt>
                  <kbd>g</kbd> <kbd>{one.key}</kbd>
                </dt>
                <dd>{one.name}</dd>
              </div>
            ))}
            <dt>
              <kbd>?</kbd>
            </dt>
            <dd>these keys</dd>
            <dt>
              <kbd>Esc</kbd>
            </dt>
            <dd>close</dd>
          </dl>
        </Dialog>
      )}
      {shown === "unlock" && <Unlock onClose={() => setShown("")} />}
    </div>
  );
}

function jump(to: FormDataEntryValue | null): void {
  const text = String(to ?? "").trim();
  if (text)
    go(
      /^[0-9a-f]{8}-[0-9a-f-]{27}$/i.test(text)
        ? `/requests/${encodeURIComponent(text)}`
        : `/topics/${encodeURIComponent(text)}`,
    );
}
