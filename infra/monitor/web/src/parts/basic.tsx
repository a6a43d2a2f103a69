/** Small parts that every page is made of. */
import { useMutation, useQuery } from "@tanstack/react-query";
import { type ReactNode, useEffect, useId, useRef, useState, useSyncExternalStore } from "react";
import type { Session as Granted } from "../answers";
import { get, keepSession, post, Refused, session, type TabSession } from "../api";
import { follow } from "../router";

export const Link = ({
  to,
  children,
  className,
  title,
}: {
  to: string;
  children: ReactNode;
  className?: string;
  title?: string;
}) => (
  <a href={to} onClick={follow} className={className} title={title}>
    {children}
  </a>
);

export const Dot = ({ state }: { state: string }) => (
  <span className={`dot ${state}`} role="img" aria-label={state} title={state} />
);

export const Badge = ({ kind = "", children }: { kind?: string; children: ReactNode }) => (
  <span className={`badge ${kind}`}>{children}</span>
);

export const Section = ({
  title,
  side,
  children,
  id,
}: {
  title: ReactNode;
  side?: ReactNode;
  children: ReactNode;
  id?: string;
}) => {
  const label = useId();
  return (
    <section aria-labelledby={label} className="section" id={id}>
      <header>
        <h2 id={label}>{title}</h2>
        {side && <div className="side">{side}</div>}
      </header>
      {children}
    </section>
  );
};

/** The head of a page. only: the one that is shown of many; `path` leads back to all of them. */
export const PageTitle = ({
  name,
  path = "",
  only = "",
  children,
}: {
  name: string;
  path?: string;
  only?: string;
  children?: ReactNode;
}) => (
  <div className="bar">
    <h1>
      {only ? (
        <>
          <Link to={path}>{name}</Link> / {only}
        </>
      ) : (
        name
      )}
    </h1>
    {children}
  </div>
);

/** What would be here, and what fills it. */
export const Empty = ({ children, command }: { children: ReactNode; command?: string }) => (
  <div className="empty">
    <p>{children}</p>
    {command && <Command words={command} />}
  </div>
);

export function Command({ words }: { words: string }) {
  const [copied, setCopied] = useState(false);
  return (
    <span className="command">
      <code>{words}</code>
      <button
        type="button"
        className="quiet"
        onClick={() => void navigator.clipboard?.writeText(words).then(() => setCopied(true))}
      >
        {copied ? "copied" : "copy"}
      </button>
    </span>
  );
}

export const Trouble = ({ error }: { error: unknown }) => (
  <div className="trouble" role="alert">
    {error instanceof Refused
      ? `${error.code}: ${error.message}`
      : `no answer: ${String(error instanceof Error ? error.message : error)}`}
  </div>
);

export const Figure = ({ name, children, kind = "" }: { name: string; children: ReactNode; kind?: string }) => (
  <div className={`figure ${kind}`}>
    <dt>{name}</dt>
    <dd>{children}</dd>
  </div>
);

/** Names, each with its value as it was written. */
export const Pairs = ({ of }: { of: [string, string][] }) => (
  <dl className="pairs">
    {of.map(([name, value]) => (
      <div key={name}>
        <dt>{name}</dt>
        <dd>
          <code>{value}</code>
        </dd>
      </div>
    ))}
  </dl>
);

export const JsonText = ({ value }: { value: unknown }) => (
  <pre className="json" tabIndex={0}>
    {JSON.stringify(value, null, 2)}
  </pre>
);

/** One question to the interface, asked again every `every_ms`. */
export const useGet = <T,>(path: string | null, every_ms?: number) =>
  useQuery<T>({
    queryKey: [path],
    queryFn: ({ signal }) => get<T>(path ?? "", signal),
    enabled: path !== null,
    refetchInterval: every_ms ?? false,
  });

export function useSession(): TabSession | null {
  const text = useSyncExternalStore(
    (listener) => {
      window.addEventListener("millrace-session", listener);
      return () => window.removeEventListener("millrace-session", listener);
    },
    () => sessionStorage.getItem("millrace-session") ?? "",
  );
  return text ? session() : null;
}

export function Dialog({
  title,
  onClose,
  children,
  wide = false,
}: {
  title: string;
  onClose: () => void;
  children: ReactNode;
  wide?: boolean;
}) {
  const ref = useRef<HTMLDialogElement>(null);
  const label = useId();
  useEffect(() => {
    const dialog = ref.current;
    if (dialog && !dialog.open) dialog.showModal?.();
    return () => dialog?.close?.();
  }, []);
  return (
    <dialog ref={ref} aria-labelledby={label} className={wide ? "wide" : ""} onClose={onClose} onCancel={onClose}>
      <header>
        <h2 id={label}>{title}</h2>
        <button type="button" className="quiet" onClick={onClose} aria-label="Close">
          ✕
        </button>
      </header>
      {children}
    </dialog>
  );
}

export function Unlock({ onClose }: { onClose: () => void }) {
  const known = session();
  const [token, setToken] = useState("");
  const { mutate, error } = useMutation({
    mutationFn: async () => {
      const as = { token: token.trim(), actor: "", role: "" };
      keepSession({ ...as, ...(await post<Granted>("session", {}, as)) });
      onClose();
    },
  });
  return (
    <Dialog title="Unlock actions" onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          mutate();
        }}
      >
        <p>
          Reading needs nothing. A token says who changes something, and each action is a line on <code>audit-v1</code>.
        </p>
        <label>
          Token
          <input
            type="password"
            value={token}
            onChange={(event) => setToken(event.target.value)}
            autoComplete="off"
            autoFocus
          />
        </label>
        <p className="hint">
          A token a role: operator (records, dead letters, runs) or releaser (models).{" "}
          <Command words="./millrace monitor --tokens --name NAME" />
        </p>
        {error && <Trouble error={error} />}
        <div className="buttons">
          {known && (
            <button
              type="button"
              onClick={() => {
                keepSession(null);
                onClose();
              }}
            >
              Lock
            </button>
          )}
          <button type="submit" className="main">
            Unlock
          </button>
        </div>
      </form>
    </Dialog>
  );
}

const Lock = () => (
  <svg className="lock" viewBox="0 0 12 14" width={9} height={11} aria-hidden="true">
    <rect x={1} y={6} width={10} height={7} rx={1.5} fill="currentColor" />
    <path d="M3 6V4a3 3 0 0 1 6 0v2" fill="none" stroke="currentColor" strokeWidth={1.6} />
  </svg>
);

/** A button that needs a role: without it, it says so and unlocks. */
export function RoleButton({
  needs,
  onClick,
  children,
  kind = "",
  disabled = false,
}: {
  needs: string;
  onClick: () => void;
  children: ReactNode;
  kind?: string;
  disabled?: boolean;
}) {
  const mine = useSession();
  const [asking, setAsking] = useState(false);
  const may = mine?.role === needs;
  return (
    <>
      <button
        type="button"
        className={kind}
        disabled={disabled}
        title={may ? undefined : `needs the token of ${needs}`}
        onClick={() => (may ? onClick() : setAsking(true))}
      >
        {children}
        {!may && <Lock />}
      </button>
      {asking && <Unlock onClose={() => setAsking(false)} />}
    </>
  );
}
