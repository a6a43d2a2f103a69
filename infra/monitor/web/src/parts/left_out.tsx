/** What of a request was not looked at, or was changed before a model got it: an answer holds only of the rest. */
import type { Json } from "../api";
import { isObject, listOf } from "../values";
import { Badge } from "./basic";

/** In sentences: `unseen` of a verdict's parts, `notes` of other answers. Pure. */
export function leftOut(value: Json): string[] {
  if (!isObject(value)) return [];
  const parts = listOf(value["parts"]).filter(isObject);
  const unseen = parts.flatMap((one) => (one["unseen"] ? [`${one["part"]}: ${one["unseen"]}`] : []));
  return [...unseen, ...listOf(value["notes"]).map(String)];
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
