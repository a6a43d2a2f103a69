/** The pipeline as it runs: who writes what, who reads it, how fast, and how far behind. */
import { Background, Controls, type Edge as FlowEdge, type Node as FlowNode, ReactFlow } from "@xyflow/react";
import "@xyflow/react/dist/style.css";
import { useMemo } from "react";
import type { Catalogue, EdgeNow, GroupNow, Snapshot } from "../api";
import { ago, clock, compact, perSecond, seconds } from "../format";
import { activeGroups, drawn, topicOf, visible } from "../graph";
import { useLive } from "../live";
import { Badge, Dot, Empty, Link, PageTitle, Section, useGet } from "../parts/basic";
import { type Data, EDGE_TYPES, type Lag, NODE_TYPES, useLayout } from "../parts/pipeline_graph";
import { type Column, Table } from "../parts/table";
import { at, go, usePlace, withParams } from "../router";

const CONTROLS = 50; // pixels below the graph, where the buttons stand
const withControls = <T extends { height: number }>(bounds: T): T => ({ ...bounds, height: bounds.height + CONTROLS });

export default function Pipeline() {
  const { snapshot } = useLive();
  const { params } = usePlace();
  const catalogue = useGet<Catalogue>("catalogue", 5000).data; // tasks may be added and removed
  const all = params.get("show") === "all";
  const inner = params.get("inner") === "1";
  const active = activeGroups(snapshot).join();
  const graph = useMemo(() => {
    if (!catalogue || !snapshot) return { nodes: [], edges: [], others: {} };
    return drawn(visible(catalogue, snapshot, all, inner));
  }, [catalogue, snapshot === null, all, inner, active]);
  const layout = useLayout(graph.nodes, graph.edges);
  const places = layout?.found;
  const nodes: FlowNode<Data>[] = places
    ? graph.nodes.map((node) => ({
        id: node.id,
        type: "millrace",
        position: places[node.id] ?? { x: 0, y: 0 },
        data: { node, snapshot, others: graph.others[node.id] },
        draggable: false,
        ariaLabel: `${node.kind} ${node.name}`,
      }))
    : [];
  const edges: FlowEdge<Lag>[] = graph.edges.map((edge) => {
    const group = snapshot?.groups[edge.group];
    const found = group?.edges[topicOf(edge.source)];
    const rate = found
      ? found.rate
      : edge.target.startsWith("topic:")
        ? (snapshot?.topics[topicOf(edge.target)]?.rate ?? 0)
        : null;
    return {
      id: `${edge.source}>${edge.target}`,
      source: edge.source,
      target: edge.target,
      type: "millrace",
      focusable: false,
      data: {
        line: layout?.lines[`${edge.source}>${edge.target}`] ?? [],
        rate,
        lag: found ? found.lag : null,
        lag_s: found?.lag_s ?? 0,
        wrong: Boolean(found && found.lag > 0 && found.lag_s > 30),
      },
    };
  });
  const wrong = Object.entries(snapshot?.groups ?? {}).flatMap(([name, group]) =>
    group.wrong.map((why) => ({ name, why })),
  );
  return (
    <div className="pipeline">
      <PageTitle name="Pipeline">
        <div className="choices" role="group" aria-label="What is drawn">
          <Link className={all ? "" : "on"} to={withParams({ show: null })}>
            what runs
          </Link>
          <Link className={all ? "on" : ""} to={withParams({ show: "all" })}>
            whole catalogue
          </Link>
          <Link
            title="retries, dead letters, and what our processes keep for themselves"
            className={inner ? "on" : ""}
            to={withParams({ inner: inner ? null : "1" })}
          >
            inner topics
          </Link>
        </div>
      </PageTitle>
      {wrong.length > 0 && (
        <ul className="wrongs" aria-label="What stands out">
          {wrong.map(({ name, why }) => (
            <li key={name + why}>
              <Dot state="wrong" />{" "}
              <Link to={why.includes("dead letter") ? "/deadletters" : at("workers", name)}>{name}</Link> {why}
            </li>
          ))}
        </ul>
      )}
      <div
        className="graph"
        data-testid="graph"
        style={
          layout ? { aspectRatio: `${layout.bounds.width + 60} / ${layout.bounds.height + 60 + CONTROLS}` } : undefined
        }
      >
        {layout && nodes.length ? (
          <ReactFlow
            key={layout.key}
            nodes={nodes}
            edges={edges}
            nodeTypes={NODE_TYPES}
            edgeTypes={EDGE_TYPES}
            onInit={(flow) => void flow.fitBounds(withControls(layout.bounds), { padding: 0.03 })}
            minZoom={0.15}
            maxZoom={1.6}
            nodesConnectable={false}
            elementsSelectable={false}
            proOptions={{ hideAttribution: true }}
            onNodeClick={(_, node) => {
              const { kind, name } = (node.data as Data).node;
              go(
                kind === "topic"
                  ? at("topics", name)
                  : kind === "worker" || kind === "processor"
                    ? at("workers", name)
                    : kind === "job"
                      ? at("workers", `flink-${name}`)
                      : kind === "store" && name === "Redis"
                        ? "/features"
                        : "/",
              );
            }}
          >
            <Background gap={24} />
            <Controls showInteractive={false} orientation="horizontal" />
          </ReactFlow>
        ) : (
          <div className="waiting" role="status">
            drawing…
          </div>
        )}
      </div>
      <Lags snapshot={snapshot} catalogue={catalogue} inner={inner} />
      <Recent snapshot={snapshot} />
    </div>
  );
}

interface Reader {
  name: string;
  group: GroupNow;
  topic: string;
  edge: EdgeNow;
}
const READERS: Column<Reader>[] = [
  { head: "group", cell: ({ name }) => <Link to={at("workers", name)}>{name}</Link> },
  { head: "reads", cell: ({ topic }) => <Link to={at("topics", topic)}>{topic}</Link> },
  { head: "rate", cell: ({ edge }) => perSecond(edge.rate), right: true },
  {
    head: "behind",
    cell: ({ name, topic, edge }) => <span data-lag={`${name}/${topic}`}>{compact(edge.lag)}</span>,
    right: true,
  },
  { head: "oldest unread", cell: ({ edge }) => (edge.lag ? seconds(edge.lag_s) : "–"), right: true },
  {
    head: "state",
    cell: ({ group }) => (
      <>
        <Dot state={group.wrong.length ? "wrong" : group.state} /> {group.wrong[0] ?? group.state}
      </>
    ),
  },
];

/** The same as a list: for those who cannot see the graph, and for a phone. */
function Lags({ snapshot, catalogue, inner }: { snapshot: Snapshot | null; catalogue?: Catalogue; inner: boolean }) {
  const hidden = new Set(catalogue?.topics.filter((one) => one.kind !== "topic" || one.aside).map((one) => one.name));
  const rows = Object.entries(snapshot?.groups ?? {}).flatMap(([name, group]) =>
    Object.entries(group.edges)
      .filter(([topic]) => inner || !hidden.has(topic))
      .map(([topic, edge]) => ({ name, group, topic, edge })),
  );
  if (!rows.length) return <Empty command="./millrace up">No group has read anything yet.</Empty>;
  return (
    <Section title="Who reads what">
      <Table
        name="Groups, their rate and lag"
        rows={rows}
        columns={READERS}
        rowKey={({ name, topic }) => `${name}/${topic}`}
      />
    </Section>
  );
}

function Recent({ snapshot }: { snapshot: Snapshot | null }) {
  const marks = [...(snapshot?.marks ?? [])].reverse().slice(0, 12);
  const stopped = (snapshot?.processes ?? []).filter((one) => !one.alive);
  const dying = (snapshot?.processes ?? []).filter((one) => one.alive && one.trouble);
  return (
    <Section title="What happened">
      {dying.map((one) => (
        <p key={one.name} className="trouble">
          {one.name} {one.trouble}
        </p>
      ))}
      {stopped.length > 0 && (
        <p className="trouble">
          not running: {stopped.map((one) => one.name).join(", ")}. <code>./millrace up</code> starts it again
        </p>
      )}
      {marks.length ? (
        <ul className="events">
          {marks.map((mark, i) => (
            <li key={i}>
              <time title={ago(mark.at_ms, Date.now())}>{clock(mark.at_ms)}</time>{" "}
              <Badge kind={mark.kind}>{mark.kind}</Badge> {mark.who}: {mark.words}
            </li>
          ))}
        </ul>
      ) : (
        <p className="dim">no swap, restart or rebalance since the monitor began to look</p>
      )}
    </Section>
  );
}
