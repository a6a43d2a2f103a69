/** The pipeline as it runs: who writes what, who reads it, how fast, and how far behind. */
import { Background, Controls, type Edge as FlowEdge, type EdgeProps, BaseEdge, EdgeLabelRenderer, Handle, type Node as FlowNode, type NodeProps, Position, ReactFlow } from "@xyflow/react";
import "@xyflow/react/dist/style.css";
import ELK from "elkjs/lib/elk-api";
import elkWorker from "elkjs/lib/elk-worker.min.js?url";
import { useEffect, useMemo, useState } from "react";
import type { Catalogue, GraphNode, Snapshot } from "../api";
import { ago, clock, compact, perSecond, seconds, share } from "../format";
import { useLive } from "../live";
import { Badge, Dot, Empty, Link, Section, useGet } from "../parts/basic";
import { at, go, usePlace, withParams } from "../router";

const SIZE: Record<GraphNode["kind"], [number, number]> = { topic: [186, 44], worker: [176, 66], processor: [176, 66], job: [176, 58], store: [130, 42], person: [110, 38] };
type Place = { x: number; y: number };
interface Layout { key: string; found: Record<string, Place>; lines: Record<string, Place[]>; bounds: { x: number; y: number; width: number; height: number } }
type Lag = { rate: number | null; lag: number | null; lag_s: number; wrong: boolean; line: Place[] };

/** Which part of the graph is drawn: what runs, or everything. Pure. */
export function visible(catalogue: Catalogue, snapshot: Snapshot | null, all: boolean, aside: boolean): { nodes: GraphNode[]; edges: Catalogue["edges"] } {
  const kept = catalogue.nodes.filter((node) => aside || !node.aside);
  const runs = new Set(Object.entries(snapshot?.groups ?? {}).filter(([, group]) => group.state !== "off" || Object.keys(group.edges).length > 0).map(([name]) => name));
  const isOn = (node: GraphNode) => ((node.kind === "worker" || node.kind === "processor") && runs.has(node.name)) || (node.kind === "job" && runs.has(`flink-${node.name}`));
  const on = new Set(kept.filter(isOn).map((node) => node.id));
  if (all || !on.size) {
    const ids = new Set(kept.map((node) => node.id));
    return { nodes: kept, edges: catalogue.edges.filter((edge) => ids.has(edge.source) && ids.has(edge.target)) };
  }
  const near = new Set(on);
  for (const edge of catalogue.edges) {
    if (on.has(edge.source)) near.add(edge.target);
    if (on.has(edge.target)) near.add(edge.source);
  }
  const topics = new Set([...near].filter((id) => id.startsWith("topic:")));
  const used = new Set(near);
  for (const edge of catalogue.edges) {
    if (topics.has(edge.source) && edge.target.startsWith("person:")) used.add(edge.target);
    if (topics.has(edge.target) && edge.source.startsWith("person:")) used.add(edge.source);
  }
  const ids = new Set(kept.filter((node) => used.has(node.id)).map((node) => node.id));
  return { nodes: kept.filter((node) => ids.has(node.id)), edges: catalogue.edges.filter((edge) => ids.has(edge.source) && ids.has(edge.target)) };
}

/** Nobody writes and reads at once: people stand twice, before what they write and behind what they read. Pure. */
export function split(nodes: GraphNode[], edges: Catalogue["edges"]): { nodes: GraphNode[]; edges: Catalogue["edges"] } {
  const found: GraphNode[] = nodes.filter((node) => node.kind !== "person");
  const turned = edges.map((edge) => {
    const source = edge.source.startsWith("person:") ? `${edge.source}:out` : edge.source;
    const target = edge.target.startsWith("person:") ? `${edge.target}:in` : edge.target;
    return { ...edge, source, target };
  });
  for (const node of nodes.filter((one) => one.kind === "person")) {
    for (const side of ["out", "in"]) {
      const id = `${node.id}:${side}`;
      if (turned.some((edge) => edge.source === id || edge.target === id)) found.push({ ...node, id });
    }
  }
  return { nodes: found, edges: turned };
}

let elk: InstanceType<typeof ELK> | null = null;
/** In a worker of its own, made when the first graph is laid out: drawing goes on meanwhile. */
const layouter = () => (elk ??= new ELK({ workerFactory: () => new Worker(elkWorker) }));
if (typeof Worker !== "undefined" && !localStorage.getItem("millrace-layout")) layouter(); // it loads while the catalogue is asked for

function useLayout(nodes: GraphNode[], edges: Catalogue["edges"]): Layout | null {
  const key = useMemo(() => `layout-7:${nodes.map((node) => node.id).join()}|${edges.length}`, [nodes, edges]);
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
    void layouter().layout({
      id: "root",
      layoutOptions: { "elk.algorithm": "layered", "elk.direction": "RIGHT", "elk.spacing.nodeNode": "16", "elk.layered.spacing.nodeNodeBetweenLayers": "58", "elk.layered.nodePlacement.strategy": "NETWORK_SIMPLEX", "elk.layered.wrapping.strategy": "MULTI_EDGE", "elk.aspectRatio": "1.8", "elk.layered.wrapping.additionalEdgeSpacing": "10", "elk.layered.spacing.edgeNodeBetweenLayers": "14" },
      children: nodes.map((node) => ({ id: node.id, width: SIZE[node.kind][0], height: SIZE[node.kind][1] })),
      edges: edges.map((edge, i) => ({ id: String(i), sources: [edge.source], targets: [edge.target] })),
    }).then((laid) => {
      if (gone) return;
      const found = Object.fromEntries((laid.children ?? []).map((node) => [node.id, { x: node.x ?? 0, y: node.y ?? 0 }]));
      const lines = Object.fromEntries((laid.edges ?? []).map((edge) => {
        const section = (edge as { sections?: { startPoint: Place; endPoint: Place; bendPoints?: Place[] }[] }).sections?.[0];
        const named = edges[Number(edge.id)]!;
        return [`${named.source}>${named.target}`, section ? [section.startPoint, ...(section.bendPoints ?? []), section.endPoint] : []];
      }));
      const corners = [...Object.values(lines).flat(), ...(laid.children ?? []).flatMap((node) => [{ x: node.x ?? 0, y: node.y ?? 0 }, { x: (node.x ?? 0) + (node.width ?? 0), y: (node.y ?? 0) + (node.height ?? 0) }])];
      const [xs, ys] = [corners.map((one) => one.x), corners.map((one) => one.y)];
      const bounds = { x: Math.min(...xs), y: Math.min(...ys), width: Math.max(...xs) - Math.min(...xs), height: Math.max(...ys) - Math.min(...ys) };
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

type Data = { node: GraphNode; snapshot: Snapshot | null };

function PipelineNode({ data }: NodeProps<FlowNode<Data>>) {
  const { node, snapshot } = data;
  const group = snapshot?.groups[node.kind === "job" ? `flink-${node.name}` : node.name];
  const topic = snapshot?.topics[node.name];
  const wrong = group?.wrong ?? [];
  return (
    <div className={`node ${node.kind} ${wrong.length ? "wrong" : ""} ${group?.state ?? ""}`} style={{ width: SIZE[node.kind][0], height: SIZE[node.kind][1] }}>
      <Handle type="target" position={Position.Left} isConnectable={false} />
      <div className="title">{group && <Dot state={wrong.length ? "wrong" : group.state} />}<span>{node.name}</span></div>
      {node.kind === "topic" && <small>{topic ? `${compact(topic.records)} · ${perSecond(topic.rate)}` : "not made"}</small>}
      {group && node.kind !== "topic" && (
        <>
          <small>{group.state === "off" ? "not started" : `${share(group.busy_share)} busy · ${group.loops.length || 1}×${Object.values(group.versions)[0] ? ` · v${[...new Set(Object.values(group.versions))].join(", v")}` : ""}`}</small>
          {wrong[0] ? <small className="why">{wrong[0]}</small> : group.waiting > 0 ? <small>{group.waiting} dead letters wait</small> : null}
        </>
      )}
      <Handle type="source" position={Position.Right} isConnectable={false} />
    </div>
  );
}

/** Straight lines with round corners through the points that the layout gave, so that none runs through a node. Pure. */
export function rounded(points: Place[], radius = 9): string {
  const [first, ...rest] = points;
  if (!first) return "";
  let path = `M${first.x},${first.y}`;
  let before = first;
  rest.forEach((point, i) => {
    const next = rest[i + 1];
    if (!next) {
      path += `L${point.x},${point.y}`;
      return;
    }
    const into = Math.min(radius, Math.hypot(point.x - before.x, point.y - before.y) / 2);
    const out = Math.min(radius, Math.hypot(next.x - point.x, next.y - point.y) / 2);
    const towards = (from: Place, to: Place, by: number): Place => {
      const length = Math.hypot(to.x - from.x, to.y - from.y) || 1;
      return { x: from.x + ((to.x - from.x) * by) / length, y: from.y + ((to.y - from.y) * by) / length };
    };
    const start = towards(point, before, into);
    const end = towards(point, next, out);
    path += `L${start.x},${start.y}Q${point.x},${point.y} ${end.x},${end.y}`;
    before = point;
  });
  return path;
}

/** Where a label stands: the middle of the longest part. Pure. */
export function labelAt(points: Place[]): Place {
  let [best, found] = [-1, points[0] ?? { x: 0, y: 0 }];
  for (let i = 1; i < points.length; i++) {
    const [from, to] = [points[i - 1]!, points[i]!];
    const length = Math.hypot(to.x - from.x, to.y - from.y);
    if (length > best) [best, found] = [length, { x: (from.x + to.x) / 2, y: (from.y + to.y) / 2 }];
  }
  return found;
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
          <div className={`edge-label ${data.wrong ? "wrong" : data.lag ? "late" : ""}`} style={{ transform: `translate(-50%, -50%) translate(${x}px, ${y}px)` }}>
            {perSecond(data.rate ?? 0)}{data.lag > 0 && <b> {compact(data.lag)} · {seconds(data.lag_s)}</b>}
          </div>
        </EdgeLabelRenderer>
      )}
    </>
  );
}

const NODE_TYPES = { millrace: PipelineNode };
const EDGE_TYPES = { millrace: FlowingEdge };

export default function Pipeline() {
  const { snapshot } = useLive();
  const { params } = usePlace();
  const catalogue = useGet<Catalogue>("catalogue").data;
  const all = params.get("show") === "all";
  const aside = params.get("aside") === "1";
  const running = Object.entries(snapshot?.groups ?? {}).filter(([, group]) => group.state !== "off" || Object.keys(group.edges).length).map(([name]) => name).join();
  const graph = useMemo(() => {
    if (!catalogue || !snapshot) return { nodes: [], edges: [] };
    const seen = visible(catalogue, snapshot, all, aside);
    return split(seen.nodes, seen.edges);
  }, [catalogue, snapshot === null, all, aside, running]);
  const layout = useLayout(graph.nodes, graph.edges);
  const places = layout?.found;
  const nodes: FlowNode<Data>[] = places ? graph.nodes.map((node) => ({ id: node.id, type: "millrace", position: places[node.id] ?? { x: 0, y: 0 }, data: { node, snapshot }, draggable: false, ariaLabel: `${node.kind} ${node.name}` })) : [];
  const edges: FlowEdge<Lag>[] = graph.edges.map((edge) => {
    const group = snapshot?.groups[edge.group];
    const found = group?.edges[edge.source.replace("topic:", "")];
    const rate = found ? found.rate : edge.target.startsWith("topic:") ? (snapshot?.topics[edge.target.replace("topic:", "")]?.rate ?? 0) : null;
    return { id: `${edge.source}>${edge.target}`, source: edge.source, target: edge.target, type: "millrace", focusable: false, data: { line: layout?.lines[`${edge.source}>${edge.target}`] ?? [], rate, lag: found ? found.lag : null, lag_s: found?.lag_s ?? 0, wrong: Boolean(found && found.lag > 0 && found.lag_s > 30) } };
  });
  const wrong = Object.entries(snapshot?.groups ?? {}).flatMap(([name, group]) => group.wrong.map((why) => ({ name, why })));
  return (
    <div className="pipeline">
      <div className="bar">
        <h1>Pipeline</h1>
        <div className="choices" role="group" aria-label="What is drawn">
          <a className={all ? "" : "on"} href={withParams({ show: null })} onClick={(e) => { e.preventDefault(); go(withParams({ show: null })); }}>what runs</a>
          <a className={all ? "on" : ""} href={withParams({ show: "all" })} onClick={(e) => { e.preventDefault(); go(withParams({ show: "all" })); }}>whole catalogue</a>
          <a className={aside ? "on" : ""} href={withParams({ aside: aside ? null : "1" })} onClick={(e) => { e.preventDefault(); go(withParams({ aside: aside ? null : "1" })); }}>bookkeeping</a>
        </div>
      </div>
      {wrong.length > 0 && (
        <ul className="wrongs" aria-label="What stands out">
          {wrong.map(({ name, why }) => <li key={name + why}><Dot state="wrong" /> <Link to={why.includes("dead letter") ? "/deadletters" : at("workers", name)}>{name}</Link> {why}</li>)}
        </ul>
      )}
      <div className="graph" data-testid="graph" style={layout ? { aspectRatio: `${layout.bounds.width + 60} / ${layout.bounds.height + 60}` } : undefined}>
        {layout && nodes.length ? (
          <ReactFlow key={layout.key} nodes={nodes} edges={edges} nodeTypes={NODE_TYPES} edgeTypes={EDGE_TYPES} onInit={(flow) => void flow.fitBounds(layout.bounds, { padding: 0.03 })} minZoom={0.15} maxZoom={1.6} nodesConnectable={false} elementsSelectable={false} proOptions={{ hideAttribution: true }}
            onNodeClick={(_, node) => { const { kind, name } = (node.data as Data).node; go(kind === "topic" ? at("topics", name) : kind === "worker" || kind === "processor" ? at("workers", name) : kind === "job" ? at("workers", `flink-${name}`) : kind === "store" && name === "Redis" ? "/features" : "/"); }}>
            <Background gap={24} /><Controls showInteractive={false} />
          </ReactFlow>
        ) : <div className="waiting" role="status">drawing…</div>}
      </div>
      <Lags snapshot={snapshot} />
      <Recent snapshot={snapshot} />
    </div>
  );
}

/** The same as a list: for those who cannot see the graph, and for a phone. */
function Lags({ snapshot }: { snapshot: Snapshot | null }) {
  const rows = Object.entries(snapshot?.groups ?? {}).flatMap(([name, group]) => Object.entries(group.edges).filter(([topic, edge]) => edge.lag > 0 || edge.rate > 0 || !topic.includes("-retry-")).map(([topic, edge]) => ({ name, group, topic, edge })));
  if (!rows.length) return <Empty command="./millrace up">No group has read anything yet.</Empty>;
  return (
    <Section title="Who reads what">
      <div className="scroll">
        <table aria-label="Groups, their rate and lag">
          <thead><tr><th scope="col">group</th><th scope="col">reads</th><th scope="col" className="right">rate</th><th scope="col" className="right">behind</th><th scope="col" className="right">oldest unread</th><th scope="col">state</th></tr></thead>
          <tbody>
            {rows.map(({ name, group, topic, edge }) => (
              <tr key={name + topic}>
                <td><Link to={at("workers", name)}>{name}</Link></td><td><Link to={at("topics", topic)}>{topic}</Link></td>
                <td className="right">{perSecond(edge.rate)}</td><td className="right" data-lag={`${name}/${topic}`}>{compact(edge.lag)}</td><td className="right">{edge.lag ? seconds(edge.lag_s) : "–"}</td>
                <td><Dot state={group.wrong.length ? "wrong" : group.state} /> {group.wrong[0] ?? group.state}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Section>
  );
}

function Recent({ snapshot }: { snapshot: Snapshot | null }) {
  const marks = [...(snapshot?.marks ?? [])].reverse().slice(0, 12);
  const stopped = (snapshot?.processes ?? []).filter((one) => !one.alive);
  const dying = (snapshot?.processes ?? []).filter((one) => one.alive && one.trouble);
  return (
    <Section title="What happened">
      {dying.map((one) => <p key={one.name} className="trouble">{one.name} {one.trouble}</p>)}
      {stopped.length > 0 && <p className="trouble">not running: {stopped.map((one) => one.name).join(", ")}. <code>./millrace up</code> starts it again</p>}
      {marks.length ? <ul className="events">{marks.map((mark, i) => <li key={i}><time title={ago(mark.at_ms, Date.now())}>{clock(mark.at_ms)}</time> <Badge kind={mark.kind}>{mark.kind}</Badge> {mark.who}: {mark.words}</li>)}</ul> : <p className="dim">no swap, restart or rebalance since the monitor began to look</p>}
    </Section>
  );
}
