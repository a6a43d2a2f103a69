/** The monitor's interface: the two calls, and the types of what it answers. Payloads are text and are only ever shown as text. */

import { exactly } from "./exact";

export type * from "./answers";

export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

const SESSION = "millrace-session";
export interface TabSession {
  token: string;
  actor: string;
  role: string;
}

/** Kept for this tab only. */
export function session(): TabSession | null {
  try {
    return JSON.parse(sessionStorage.getItem(SESSION) ?? "null") as TabSession | null;
  } catch {
    return null;
  }
}

export function keepSession(found: TabSession | null): void {
  if (found) sessionStorage.setItem(SESSION, JSON.stringify(found));
  else sessionStorage.removeItem(SESSION);
  window.dispatchEvent(new Event("millrace-session"));
}

async function answer<T>(response: Response): Promise<T> {
  const body: unknown = await response
    .text()
    .then(exactly)
    .catch(() => ({}));
  if (response.ok) return body as T;
  const { code = "error", message = response.statusText } = body as { code?: string; message?: string };
  throw new Refused(response.status, code, message);
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return answer<T>(await fetch(`/api/${path}`, signal ? { signal } : {}));
}

/** What a token unlocks. */
export async function post<T>(path: string, body: unknown, as: TabSession | null = session()): Promise<T> {
  const headers: Record<string, string> = { "Content-Type": "application/json" };
  if (as) headers["Authorization"] = `Bearer ${as.token}`;
  return answer<T>(await fetch(`/api/${path}`, { method: "POST", headers, body: JSON.stringify(body) }));
}

export const query = (params: Record<string, string | number | boolean | null | undefined>): string => {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(params))
    if (value !== null && value !== undefined && value !== "") found.set(name, String(value));
  const text = found.toString();
  return text ? `?${text}` : "";
};
