/** What of a request was not looked at, or was changed before a model got it: an answer holds only of the rest. */
import type { Json } from "../api";
import { Badge } from "./basic";

const isObject = (value: Json | undefined): value is { [key: string]: Json } =>
  value !== null && typeof value === "object" && !Array.isArray(value);

/** In sentences: `unseen` of a verdict's parts, `notes` of other answers. Pure. */
export function leftOut(value: Json): string[] {
  if (!isObject(value)) return [];
  const parts = Array.isArray(value["parts"]) ? value["parts"].filter(isObject) : [];
  const unseen = parts.flatMap((one) => (one["unseen"] ? [`${one["part"]}: ${one["unseen"]}`] : []));
  const notes = Array.isArray(value["notes"]) ? value["notes"].map(String) : [];
  return [...unseen, ...notes];
}

export function LeftOut({ value }: { value: Json }) {
  const found = leftOut(value);
  if (!found.length) return null;
  return (
    <ul className="notes" aria-label="Left out">
      {found.map((words) => (
        <li key={words}>
          <Badge kind="late">not all of it</Badge> {words}
        </li>
      ))}
    </ul>
  );
}
