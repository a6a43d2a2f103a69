/** Pictures and sounds in records. Bytes come as text with a character a byte; what they are is told by their first bytes alone, and
 * only a browser ever decodes them. */
import type { Json } from "./answers";
import { isObject } from "./values";

export type MediaType =
  | "image/png"
  | "image/jpeg"
  | "image/webp"
  | "image/gif"
  | "audio/wav"
  | "audio/flac"
  | "audio/ogg"
  | "audio/mpeg";
export interface Media {
  path: string;
  type: MediaType;
  text: string;
}

const starts = (first: string) => (text: string) => text.startsWith(first);
const riff = (kind: string) => (text: string) => text.startsWith("RIFF") && text.slice(8, 12) === kind;
const FIRST_BYTES: [MediaType, (text: string) => boolean][] = [
  ["image/png", starts("\x89PNG\r\n\x1a\n")],
  ["image/jpeg", starts("\xff\xd8\xff")],
  ["image/webp", riff("WEBP")],
  ["image/gif", (text) => text.startsWith("GIF87a") || text.startsWith("GIF89a")],
  ["audio/wav", riff("WAVE")],
  ["audio/flac", starts("fLaC")],
  ["audio/ogg", starts("OggS")],
  ["audio/mpeg", (text) => (text.startsWith("ID3") && text.charCodeAt(3) < 5) || /^\xff[\xf2\xf3\xfa\xfb]/.test(text)],
];
const LOOKED_AT = 256; // characters that tell bytes from text
const CONTROL_SHARE = 0.05; // of control characters: text has fewer
const CUT = /… \((\d+) more\)$/; // what the server puts at the end of a text that it cut off
const MOST = 12; // of one record

export function mediaType(text: string): MediaType | null {
  return FIRST_BYTES.find(([, is]) => is(text))?.[0] ?? null;
}

function isBytes(text: string): boolean {
  const head = text.slice(0, LOOKED_AT).replace(CUT, "");
  let controls = 0;
  for (let i = 0; i < head.length; i++) {
    const code = head.charCodeAt(i);
    if ((code < 0x20 && code !== 0x09 && code !== 0x0a && code !== 0x0d) || (code >= 0x7f && code < 0xa0)) controls++;
  }
  return controls > CONTROL_SHARE * head.length;
}

/** Null where the text is not bytes, or not all of them. */
export function bytesOf(text: string): Uint8Array<ArrayBuffer> | null {
  const found = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code > 0xff) return null;
    found[i] = code;
  }
  return found;
}

/** Whole pictures and sounds in a value, with the path of the field that each is in. */
export function mediaIn(value: Json, path = ""): Media[] {
  if (typeof value === "string") {
    const type = mediaType(value);
    return type !== null && !CUT.test(value) ? [{ path, type, text: value }] : [];
  }
  if (value === null || typeof value !== "object") return [];
  const inner = Object.entries(value).flatMap(([name, one]) => mediaIn(one, path ? `${path}.${name}` : name));
  return inner.slice(0, MOST);
}

/** The same value with words in the place of bytes. */
export function withoutBytes(value: Json): Json {
  if (typeof value === "string") {
    const type = mediaType(value);
    if (type === null && !isBytes(value)) return value;
    const cut = CUT.exec(value);
    const n = cut ? cut.index + Number(cut[1]) : value.length;
    return `‹${type ?? "bytes"}, ${n.toLocaleString("en")} B›`;
  }
  if (Array.isArray(value)) return value.map(withoutBytes);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, withoutBytes(one)]));
}

const BOOKKEEPING =
  /(^|_)(ids?|ms|offsets?|partitions?|digest|salt|sha256|traceparent|redrive|attempt|batch_size|embeddings?)$/;

/** A record's own fields first; then ids, times, offsets and what else our processes keep of it. */
export function ownFirst(value: Json): Json {
  if (!isObject(value)) return value;
  const fields = Object.entries(value).filter(([, one]) => one !== null);
  const own = fields.filter(([name]) => !BOOKKEEPING.test(name));
  return Object.fromEntries([...own, ...fields.filter(([name]) => BOOKKEEPING.test(name))]);
}
