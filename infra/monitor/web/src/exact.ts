/** JSON whose whole numbers may be larger than a browser's: past 2^53 they become text of the same digits, which the monitor takes for a
 * number where the schema has one. */
const PARTS = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g; // strings and numbers, each whole
const WHOLE = /^-?\d+$/;

export function exactly(text: string): unknown {
  return JSON.parse(
    text.replace(PARTS, (part) => (WHOLE.test(part) && !Number.isSafeInteger(Number(part)) ? `"${part}"` : part)),
  ) as unknown;
}
