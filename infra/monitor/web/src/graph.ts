/** The graph of the pipeline: which part of it is drawn, and how its lines run. Pure. */
import type { Catalogue, GraphNode, Snapshot } from "./answers";

export type Place = { x: number; y: number };

/** Groups that run, or that read something once. */
export const activeGroups = (snapshot: Snapshot | null): string[] =>
  Object.entries(snapshot?.groups ?? {})
    .filter(([, group]) => group.state !== "off" || Object.keys(group.edges).length > 0)
    .map(([name]) => name);

/** Which part of the graph is drawn: what runs, or everything. */
export function visible(
  catalogue: Catalogue,
  snapshot: Snapshot | null,
  all: boolean,
  aside: boolean,
): { nodes: GraphNode[]; edges: Catalogue["edges"] } {
  const kept = catalogue.nodes.filter((node) => aside || !node.aside);
  const runs = new Set(activeGroups(snapshot));
  const isOn = (node: GraphNode) =>
    ((node.kind === "worker" || node.kind === "processor") && runs.has(node.name)) ||
    (node.kind === "job" && runs.has(`flink-${node.name}`));
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
  return {
    nodes: kept.filter((node) => ids.has(node.id)),
    edges: catalogue.edges.filter((edge) => ids.has(edge.source) && ids.has(edge.target)),
  };
}

type Graph = { nodes: GraphNode[]; edges: Catalogue["edges"] };
/** Who else writes a topic and reads it, without a line: people, and groups that would close a circle. */
export interface Others {
  from: string[];
  to: string[];
}

/** The graph as it is drawn: people, and edges that run back, are words at their topics, so that every line runs forward and is short;
 * what models learn from stands apart, beginning with a second copy of the topics that it reads. */
export function drawn({ nodes, edges }: Graph): Graph & { others: Record<string, Others> } {
  const others: Record<string, Others> = {};
  const note = (topic: string, side: keyof Others, name: string) => {
    const found = others[topic] ?? { from: [], to: [] };
    others[topic] = { ...found, [side]: [...new Set([...found[side], name])] };
  };
  const names = new Map(nodes.map((node) => [node.id, node]));
  const isBack = runsBack(nodes, edges);
  const kept = edges.filter((edge) => {
    const [source, target] = [names.get(edge.source), names.get(edge.target)];
    if (!source || !target) return false;
    if (source.kind !== "person" && target.kind !== "person" && !isBack(edge)) return true;
    if (target.kind === "topic") note(target.id, "from", source.name);
    else if (source.kind === "topic") note(source.id, "to", target.name);
    return false;
  });
  return { ...apart({ nodes: nodes.filter((node) => node.kind !== "person"), edges: kept }), others };
}

/** Of a circle, the edges that lead back towards what people write. */
function runsBack(nodes: GraphNode[], edges: Catalogue["edges"]): (edge: Catalogue["edges"][number]) => boolean {
  const next = new Map<string, string[]>();
  const own = edges.filter((edge) => !edge.source.startsWith("person:") && !edge.target.startsWith("person:"));
  for (const edge of own) next.set(edge.source, [...(next.get(edge.source) ?? []), edge.target]);
  const reached = (from: string): Map<string, number> => {
    const depth = new Map([[from, 0]]);
    for (const id of depth.keys()) {
      for (const to of next.get(id) ?? []) if (!depth.has(to)) depth.set(to, (depth.get(id) ?? 0) + 1);
    }
    return depth;
  };
  const written = new Set(own.map((edge) => edge.target));
  const depth = new Map<string, number>();
  for (const node of nodes.filter((one) => !written.has(one.id))) {
    for (const [id, n] of reached(node.id)) depth.set(id, Math.min(n, depth.get(id) ?? n));
  }
  const behind = new Map(nodes.map((node) => [node.id, reached(node.id)]));
  return ({ source, target }) =>
    behind.get(target)?.has(source) === true && (depth.get(target) ?? 0) <= (depth.get(source) ?? 0);
}

const LEARNING = new Set(
  ["drift", "accuracy", "decide", "launch", "rollout", "reconcile"].map((name) => `group:${name}`),
);
const COPY = "#learning";

/** Name of a topic, whichever copy of it a node is. */
export const topicOf = (id: string): string => id.replace("topic:", "").replace(COPY, "");

function apart({ nodes, edges }: Graph): Graph {
  const copies = new Map<string, GraphNode>();
  const written = new Set(edges.filter((edge) => LEARNING.has(edge.source)).map((edge) => edge.target));
  const turned = edges.map((edge) => {
    const topic = nodes.find((node) => node.id === edge.source && node.kind === "topic");
    if (!topic || !LEARNING.has(edge.target) || written.has(topic.id)) return edge;
    const copy = { ...topic, id: topic.id + COPY };
    copies.set(copy.id, copy);
    return { ...edge, source: copy.id };
  });
  return { nodes: [...nodes, ...copies.values()], edges: turned };
}

/** Straight lines with round corners through the points that the layout gave, so that none runs through a node. */
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

/** Where a label stands: the middle of the longest part. */
export function labelAt(points: Place[]): Place {
  let [best, found] = [-1, points[0] ?? { x: 0, y: 0 }];
  for (let i = 1; i < points.length; i++) {
    const [from, to] = [points[i - 1]!, points[i]!];
    const length = Math.hypot(to.x - from.x, to.y - from.y);
    if (length > best) [best, found] = [length, { x: (from.x + to.x) / 2, y: (from.y + to.y) / 2 }];
  }
  return found;
}
