/** What a record's value is, whatever somebody wrote: an object, a list, or the reason why it does not decode. Pure. */
import type { Json } from "./answers";

export type Fields = { [name: string]: Json };

export const isObject = (value: Json | undefined): value is Fields =>
  value !== null && typeof value === "object" && !Array.isArray(value);

export const listOf = (value: Json | undefined): Json[] => (Array.isArray(value) ? value : []);

/** Why a record does not decode; null where it does. */
export const notDecoded = (value: Json): string | null =>
  isObject(value) && "not_decoded" in value ? String(value["not_decoded"]) : null;
