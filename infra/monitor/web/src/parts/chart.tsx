/** Lines over time from the monitor's history, with rebalances, restarts and swaps marked on each. */
import { useEffect, useMemo, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { type MarkedSamples as Answer, type Mark, query } from "../api";
import { clock } from "../format";
import { useGet } from "./basic";

export interface Line {
  series: string;
  name?: string;
  scale?: number;
}

const COLOURS = ["#0e7490", "#b45309", "#6d28d9", "#15803d", "#be123c", "#1d4ed8", "#a16207", "#0f766e"];
const MARKS: Record<string, string> = {
  swap: "#15803d",
  refused: "#be123c",
  restart: "#b45309",
  rebalance: "#6d28d9",
  redrive: "#1d4ed8",
};

/** One request for several charts: names with `*` give a line for each that there is. */
export function useHistory(series: string[], minutes = 60): Answer | undefined {
  const from = Math.floor((Date.now() - minutes * 60_000) / 60_000) * 60_000;
  const text = series.map((name) => `series=${encodeURIComponent(name)}`).join("&");
  return useGet<Answer>(series.length ? `history${query({ from_ms: from })}&${text}` : null, 4000).data;
}

const GUTTER = 90; // pixels of a chart's own numbers where it stands under another axis

/** of: whose marks are drawn, where not all. over_ms: the time that is shown, where it stands under another axis of that time. */
export function Chart({
  title,
  unit,
  lines,
  data,
  height = 150,
  format,
  over_ms,
  of,
}: {
  title: string;
  unit: string;
  lines: Line[];
  data: Answer | undefined;
  height?: number;
  format?: (value: number) => string;
  over_ms?: number;
  of?: string;
}) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const marks = useRef<Mark[]>([]);
  const known = useMemo(() => expand(lines, data), [lines, data]);
  const key = known.map((line) => line.series).join("|");
  marks.current = (data?.marks ?? []).filter((mark) => !of || mark.who === of);
  const say = format ?? ((value: number) => `${value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${unit}`);

  useEffect(() => {
    const node = box.current;
    if (!node || !known.length) return;
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--dim").trim();
    const grid = { stroke: style.getPropertyValue("--line").trim(), width: 1 };
    const made = new uPlot(
      {
        width: node.clientWidth || 400,
        height,
        ms: 1,
        legend: { live: true },
        cursor: { y: false, sync: { key: "millrace" } },
        ...(over_ms ? { padding: [8, 0, 0, 0] as [number, number, number, number] } : {}),
        scales: {
          ...(over_ms ? { x: { range: () => [Date.now() - over_ms, Date.now()] as [number, number] } } : {}),
          y: { range: (_, low, high) => [Math.min(0, low ?? 0), (high ?? 0) > 0 ? (high ?? 1) * 1.1 : 1] },
        },
        axes: [
          {
            stroke: ink,
            grid,
            values: (_, ticks) =>
              ticks.map((tick) =>
                (ticks.at(-1) ?? 0) - (ticks[0] ?? 0) < 600_000 ? clock(tick) : clock(tick).slice(0, 5),
              ),
            size: 28,
            space: 74,
          },
          { stroke: ink, grid, size: over_ms ? GUTTER : 74, values: (_, ticks) => ticks.map((tick) => say(tick)) },
        ],
        series: [
          { value: (_, ms) => (ms ? clock(ms) : "–") },
          ...known.map((line, i) => ({
            label: line.name ?? line.series,
            stroke: COLOURS[i % COLOURS.length],
            width: 1.5,
            spanGaps: false,
            points: { show: false },
            value: (_: uPlot, v: number | null) => (v === null || v === undefined ? "–" : say(v)),
          })),
        ],
        hooks: { draw: [(u) => drawMarks(u, marks.current)] },
      },
      aligned(known, data),
      node,
    );
    plot.current = made;
    const watch = new ResizeObserver(() => made.setSize({ width: node.clientWidth, height }));
    watch.observe(node);
    return () => {
      watch.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [key, height, over_ms]);

  useEffect(() => {
    if (plot.current && data) plot.current.setData(aligned(known, data));
  }, [data]);

  return (
    <figure className={over_ms ? "chart under" : "chart"}>
      <figcaption>
        {title} <span className="dim">{unit}</span>
      </figcaption>
      {known.length ? (
        <div ref={box} style={{ minHeight: height + 30 }} />
      ) : (
        <p className="dim">nothing was measured yet</p>
      )}
    </figure>
  );
}

function expand(lines: Line[], data: Answer | undefined): Line[] {
  if (!data) return [];
  return lines.flatMap((line) => {
    const [head = "", tail = ""] = line.series.split("*");
    if (!line.series.includes("*")) return data.series[line.series]?.some((v) => v !== null) ? [line] : [];
    return Object.keys(data.series)
      .filter((name) => name.startsWith(head) && name.endsWith(tail) && data.series[name]?.some((v) => v !== null))
      .map((name) => ({
        ...line,
        series: name,
        name: [name.slice(head.length, name.length - tail.length), line.name].filter(Boolean).join(" "),
      }));
  });
}

function aligned(lines: Line[], data: Answer | undefined): uPlot.AlignedData {
  return [
    data?.at_ms ?? [],
    ...lines.map((line) => (data?.series[line.series] ?? []).map((v) => (v === null ? null : v * (line.scale ?? 1)))),
  ] as uPlot.AlignedData;
}

function drawMarks(u: uPlot, marks: Mark[]): void {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.setLineDash([4, 3]);
  for (const mark of marks) {
    const x = Math.round(u.valToPos(mark.at_ms, "x", true));
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = MARKS[mark.kind] ?? "#888";
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}

export const MarkKey = () => (
  <p className="hint marks">
    {Object.entries(MARKS).map(([kind, colour]) => (
      <span key={kind}>
        <i style={{ borderColor: colour }} />
        {kind}
      </span>
    ))}
  </p>
);

/** Counts by upper edge, as bars. */
export function Histogram({ bins, name }: { bins: [string, number][]; name: string }) {
  const most = Math.max(1, ...bins.map(([, n]) => n));
  return (
    <div className="bars" role="img" aria-label={`${name}: ${bins.map(([edge, n]) => `${edge}: ${n}`).join(", ")}`}>
      {bins.map(([edge, n]) => (
        <div key={edge} title={`${edge}: ${n}`}>
          <b style={{ height: `${(100 * n) / most}%` }} />
          <span>{edge}</span>
        </div>
      ))}
    </div>
  );
}
