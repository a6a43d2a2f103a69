/** Where one is, told by the address: every view has a link. */
import { type MouseEvent, useSyncExternalStore } from "react";

const MOVED = "millrace-moved";

function subscribe(listener: () => void): () => void {
  window.addEventListener("popstate", listener);
  window.addEventListener(MOVED, listener);
  return () => {
    window.removeEventListener("popstate", listener);
    window.removeEventListener(MOVED, listener);
  };
}

export function go(to: string, replace = false): void {
  if (replace) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  window.dispatchEvent(new Event(MOVED));
}

export interface Place {
  path: string[];
  params: URLSearchParams;
}

export function usePlace(): Place {
  const address = useSyncExternalStore(subscribe, () => location.pathname + location.search);
  const url = new URL(address, location.origin);
  return { path: url.pathname.split("/").filter(Boolean).map(decodeURIComponent), params: url.searchParams };
}

/** The same page with some parameters changed; null takes one away. */
export function withParams(changes: Record<string, string | null>): string {
  const url = new URL(location.href);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") url.searchParams.delete(name);
    else url.searchParams.set(name, value);
  }
  return url.pathname + url.search;
}

export const at = (...parts: (string | number)[]): string =>
  `/${parts.map((part) => encodeURIComponent(String(part))).join("/")}`;

/** For the click of a link of ours: the browser's own ways (new tab, middle button) stay. */
export function follow(event: MouseEvent<HTMLAnchorElement>): void {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey)
    return;
  event.preventDefault();
  go(event.currentTarget.getAttribute("href") ?? "/");
}
