/** The pipeline drawn: laid out once for the nodes that are shown, then painted with what is known of them now. */
import {
  BaseEdge,
  EdgeLabelRenderer,
  type EdgeProps,
  type Edge as FlowEdge,
  type Node as FlowNode,
  Handle,
  type NodeProps,
  Position,
} from "@xyflow/react";
import ELK from "elkjs/lib/elk-api";
import elkWorker from "elkjs/lib/elk-worker.min.js?url";
import { useEffect, useMemo, useState } from "react";
import type { Catalogue, GraphNode, Snapshot } from "../api";
import { compact, perSecond, seconds, share } from "../format";
import { labelAt, type Others, type Place, rounded } from "../graph";
import { Dot } from "./basic";

const SIZE: Record<GraphNode["kind"], [number, number]> = {
  topic: [186, 58],
  worker: [176, 66],
  processor: [176, 66],
  job: [176, 58],
  store: [130, 42],
  person: [110, 38],
};
interface Layout {
  key: string;
  found: Record<string, Place>;
  lines: Record<string, Place[]>;
  bounds: { x: number; y: number; width: number; height: number };
}
export type Lag = { rate: number | null; lag: number | null; lag_s: number; wrong: boolean; line: Place[] };

let elk: InstanceType<typeof ELK> | null = null;
/** In a worker of its own, made when the first graph is laid out: drawing goes on meanwhile. */
function layouter(): InstanceType<typeof ELK> {
  elk ??= new ELK({ workerFactory: () => new Worker(elkWorker) });
  return elk;
}
if (typeof Worker !== "undefined" && !localStorage.getItem("millrace-layout")) layouter(); // it loads while the catalogue is asked for

export function useLayout(nodes: GraphNode[], edges: Catalogue["edges"]): Layout | null {
  const key = useMemo(() => `layout-8:${nodes.map((node) => node.id).join()}|${edges.length}`, [nodes, edges]);
  const [layout, setLayout] = useState<Layout | null>(null);
  useEffect(() => {
    const kept = localStorage.getItem("millrace-layout");
    if (kept) {
      const parsed = JSON.parse(kept) as Layout;
      if (parsed.key === key) {
        setLayout(parsed);
        return;
      }
    }
    let gone = false;
    void layouter()
      .layout({
        id: "root",
        layoutOptions: {
          "elk.algorithm": "layered",
          "elk.direction": "RIGHT",
          "elk.spacing.nodeNode": "16",
          "elk.layered.spacing.nodeNodeBetweenLayers": "58",
          "elk.layered.nodePlacement.strategy": "NETWORK_SIMPLEX",
          "elk.separateConnectedComponents": "true",
          "elk.aspectRatio": "2",
          "elk.layered.spacing.edgeNodeBetweenLayers": "14",
        },
        children: nodes.map((node) => ({ id: node.id, width: SIZE[node.kind][0], height: SIZE[node.kind][1] })),
        edges: edges.map((edge, i) => ({ id: String(i), sources: [edge.source], targets: [edge.target] })),
      })
      .then((laid) => {
        if (gone) return;
        const found = Object.fromEntries(
          (laid.children ?? []).map((node) => [node.id, { x: node.x ?? 0, y: node.y ?? 0 }]),
        );
        const lines = Object.fromEntries(
          (laid.edges ?? []).map((edge) => {
            const section = (edge as { sections?: { startPoint: Place; endPoint: Place; bendPoints?: Place[] }[] })
              .sections?.[0];
            const named = edges[Number(edge.id)]!;
            return [
              `${named.source}>${named.target}`,
              section ? [section.startPoint, ...(section.bendPoints ?? []), section.endPoint] : [],
            ];
          }),
        );
        const corners = [
          ...Object.values(lines).flat(),
          ...(laid.children ?? []).flatMap((node) => [
            { x: node.x ?? 0, y: node.y ?? 0 },
            { x: (node.x ?? 0) + (node.width ?? 0), y: (node.y ?? 0) + (node.height ?? 0) },
          ]),
        ];
        const [xs, ys] = [corners.map((one) => one.x), corners.map((one) => one.y)];
        const bounds = {
          x: Math.min(...xs),
          y: Math.min(...ys),
          width: Math.max(...xs) - Math.min(...xs),
          height: Math.max(...ys) - Math.min(...ys),
        };
        const made = { key, found, lines, bounds };
        localStorage.setItem("millrace-layout", JSON.stringify(made));
        setLayout(made);
      });
    return () => {
      gone = true;
    };
  }, [key]);
  return layout?.key === key ? layout : null;
}

export type Data = { node: GraphNode; snapshot: Snapshot | null; others: Others | undefined };

/** Writers and readers without a line: people, and groups that a line would lead back to. */
function OthersOfTopic({ others }: { others: Others }) {
  const from = others.from.length ? `from ${others.from.join(", ")}` : "";
  const to = others.to.length ? `to ${others.to.join(", ")}` : "";
  const words = [from, to].filter(Boolean).join(" · ");
  return <small title={words}>{words}</small>;
}

function PipelineNode({ data }: NodeProps<FlowNode<Data>>) {
  const { node, snapshot, others } = data;
  const group = snapshot?.groups[node.kind === "job" ? `flink-${node.name}` : node.name];
  const topic = snapshot?.topics[node.name];
  const wrong = group?.wrong ?? [];
  const versions = [...new Set(Object.values(group?.versions ?? {}))];
  return (
    <div
      className={`node ${node.kind} ${wrong.length ? "wrong" : ""} ${group?.state ?? ""}`}
      style={{ width: SIZE[node.kind][0], height: SIZE[node.kind][1] }}
    >
      <Handle type="target" position={Position.Left} isConnectable={false} />
      <div className="title">
        {group && <Dot state={wrong.length ? "wrong" : group.state} />}
        <span>{node.name}</span>
      </div>
      {node.kind === "topic" && (
        <>
          <small>{topic ? `${compact(topic.records)} · ${perSecond(topic.rate)}` : "not made"}</small>
          {others && <OthersOfTopic others={others} />}
        </>
      )}
      {group && node.kind !== "topic" && (
        <>
          <small>
            {group.state === "off"
              ? "not started"
              : `${share(group.busy_share)} busy · ${group.loops.length || 1}×${versions.length ? ` · v${versions.join(", v")}` : ""}`}
          </small>
          {wrong[0] ? (
            <small className="why">{wrong[0]}</small>
          ) : group.waiting > 0 ? (
            <small>{group.waiting} dead letters wait</small>
          ) : null}
        </>
      )}
      <Handle type="source" position={Position.Right} isConnectable={false} />
    </div>
  );
}

function FlowingEdge({ id, data }: EdgeProps<FlowEdge<Lag>>) {
  const points = data?.line ?? [];
  const { x, y } = labelAt(points);
  const flows = (data?.rate ?? 0) > 0;
  return (
    <>
      <BaseEdge id={id} path={rounded(points)} className={`${flows ? "flows" : ""} ${data?.wrong ? "wrong" : ""}`} />
      {data?.lag !== null && data?.lag !== undefined && (flows || data.lag > 0) && (
        <EdgeLabelRenderer>
          <div
            className={`edge-label ${data.wrong ? "wrong" : data.lag ? "late" : ""}`}
            style={{ transform: `translate(-50%, -50%) translate(${x}px, ${y}px)` }}
          >
            {perSecond(data.rate ?? 0)}
            {data.lag > 0 && (
              <b>
                {" "}
                {compact(data.lag)} · {seconds(data.lag_s)}
              </b>
            )}
          </div>
        </EdgeLabelRenderer>
      )}
    </>
  );
}

export const NODE_TYPES = { millrace: PipelineNode };
export const EDGE_TYPES = { millrace: FlowingEdge };
