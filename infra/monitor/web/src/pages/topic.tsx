/** One topic: its partitions, settings and schema, and a browser of its messages. */
import { useMemo, useState } from "react";
import type { PartitionNow, RecordPage, TopicPage } from "../api";
import { bytes, compact, count, guarantee, perSecond, seconds } from "../format";
import { useLive } from "../live";
import { Badge, Empty, Figure, JsonText, Link, PageTitle, RoleButton, Trouble, useGet } from "../parts/basic";
import { Chart, useHistory } from "../parts/chart";
import { Messages } from "../parts/messages";
import { ProduceDialog } from "../parts/produce_dialog";
import { type Column, Table } from "../parts/table";
import { at, follow, usePlace, withParams } from "../router";

const TABS = ["messages", "partitions", "schema", "settings"] as const;

const partitionColumns = (topic: string): Column<PartitionNow>[] => [
  {
    head: "partition",
    cell: (one) => <Link to={`${at("topics", topic)}?partition=${one.partition}`}>{one.partition}</Link>,
    right: true,
  },
  { head: "first", cell: (one) => count(one.first), right: true },
  { head: "end", cell: (one) => count(one.end), right: true },
  { head: "kept", cell: (one) => count(one.end - one.first), right: true },
  {
    head: "groups at (behind)",
    cell: (one) =>
      Object.entries(one.groups).map(([group, position]) => (
        <span key={group} className="pair">
          {group} {count(position)} ({count(Math.max(0, one.end - position))})
        </span>
      )),
  },
];

export default function Topic({ name }: { name: string }) {
  const { params } = usePlace();
  const { snapshot } = useLive();
  const tab = params.get("tab") ?? "messages";
  const about = useGet<TopicPage>(`topics/${encodeURIComponent(name)}`, 5000);
  const [producing, setProducing] = useState(false);
  const series = useMemo(() => [`topic/${name}/rate`, `edge/*/${name}/lag`, `edge/*/${name}/lag_s`], [name]);
  const history = useHistory(series);
  const rate = useMemo(() => [{ series: `topic/${name}/rate`, name: "written" }], [name]);
  const lag = useMemo(() => [{ series: `edge/*/${name}/lag` }], [name]);
  const late = useMemo(() => [{ series: `edge/*/${name}/lag_s` }], [name]);
  const partitions = useMemo(() => partitionColumns(name), [name]);
  const found = about.data;
  const grouped = Object.values(snapshot?.groups ?? {}).some((group) => name in group.edges);
  const now = snapshot?.topics[name];
  const newest = useGet<RecordPage>(`topics/${encodeURIComponent(name)}/records?limit=50`).data?.records ?? [];
  const mean = newest.reduce((sum, one) => sum + one.bytes, 0) / Math.max(1, newest.length);
  const kept = found?.partitions.reduce((sum, one) => sum + one.end - one.first, 0) ?? 0;
  if (about.error)
    return (
      <>
        <h1>{name}</h1>
        <Trouble error={about.error} />
      </>
    );
  return (
    <>
      <PageTitle name="Topics" path="/topics" only={name}>
        {found?.about && (
          <>
            <Badge>{guarantee(found.about.guarantee)}</Badge>
            <Badge>{found.about.owner}</Badge>
          </>
        )}
        {found?.about?.kind === "topic" &&
          found.schema !== null &&
          found.about.writers.some((one) => one === "producers" || one === "clients") && (
            <RoleButton needs="operator" onClick={() => setProducing(true)}>
              Produce…
            </RoleButton>
          )}
        {found?.about?.kind === "dead letters" && (
          <Link to={at("deadletters", name)} className="button">
            Redrive…
          </Link>
        )}
      </PageTitle>
      <dl className="figures">
        <Figure name="offsets kept">{compact(kept)}</Figure>
        <Figure name="size of values, about">
          <span title="offsets kept times the mean of the newest 50 values">{bytes(Math.round(kept * mean))}</span>
        </Figure>
        <Figure name="rate">{perSecond(now?.rate ?? 0)}</Figure>
        <Figure name="partitions">{found?.partitions.length ?? "–"}</Figure>
        <Figure name="key">{found?.about?.key ?? "–"}</Figure>
        <Figure name="written by">{found?.about?.writers.join(", ") ?? "–"}</Figure>
        <Figure name="read by">{found?.about?.readers.join(", ") ?? "–"}</Figure>
      </dl>
      <div className="charts three">
        <Chart title="Written" unit="/s" lines={rate} data={history} height={90} />
        {grouped && (
          <Chart
            title="Behind"
            unit="records"
            lines={lag}
            data={history}
            height={90}
            format={(v) => compact(Math.round(v))}
          />
        )}
        {grouped && <Chart title="Oldest unread" unit="s" lines={late} data={history} height={90} format={seconds} />}
      </div>
      <div className="tabs" role="tablist">
        {TABS.map((one) => (
          <a
            key={one}
            role="tab"
            aria-selected={tab === one}
            href={withParams({ tab: one === "messages" ? null : one })}
            onClick={follow}
          >
            {one}
          </a>
        ))}
      </div>
      {tab === "messages" && <Messages topic={name} partitions={found?.partitions.length ?? 0} />}
      {tab === "partitions" && found && (
        <Table name="Partitions" rows={found.partitions} columns={partitions} rowKey={(one) => String(one.partition)} />
      )}
      {tab === "schema" &&
        found &&
        (found.schema === null ? (
          <Empty>Values keep the schema of the topic that they are copies of: there is none of this topic’s own.</Empty>
        ) : (
          <>
            <p className="hint">
              version {found.schema_version} of{" "}
              <Link to={at("schemas", found.about?.subject ?? "")}>{found.about?.subject}</Link>
            </p>
            <JsonText value={found.schema} />
          </>
        ))}
      {tab === "settings" && found && (
        <div className="scroll">
          <table aria-label="Settings">
            <tbody>
              {Object.entries(found.config)
                .sort()
                .map(([key, value]) => (
                  <tr key={key}>
                    <th scope="row">{key}</th>
                    <td>
                      <code>{value}</code>
                      {found.about?.config[key] === value && <Badge>ours</Badge>}
                    </td>
                  </tr>
                ))}
            </tbody>
          </table>
        </div>
      )}
      {producing && <ProduceDialog topic={name} onClose={() => setProducing(false)} />}
    </>
  );
}
