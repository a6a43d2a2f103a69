/** Kafka Connect: what each connector and its tasks do. Configurations are not shown: they may hold passwords. */
import { useState } from "react";
import { type Connectors as Answer, post } from "../api";
import { Badge, Dot, Empty, PageTitle, RoleButton, Section, Trouble, useGet } from "../parts/basic";

const dot = (state: string) => (state === "RUNNING" ? "running" : state === "FAILED" ? "wrong" : "off");

export default function Connectors() {
  const { data, error, refetch } = useGet<Answer>("connectors", 5000);
  const [failed, setFailed] = useState<unknown>(null);
  const restart = (name: string) =>
    void post(`connectors/${encodeURIComponent(name)}/restart`, {}).then(() => refetch(), setFailed);
  return (
    <>
      <PageTitle name="Connectors">{data?.address && <span className="dim">{data.address}</span>}</PageTitle>
      {error && <Trouble error={error} />}
      {failed !== null && <Trouble error={failed} />}
      {data && !data.address && (
        <Empty command="./millrace up --with connect">
          No Kafka Connect is known: this starts one, and MILLRACE_CONNECT names another. Its connectors, their tasks
          and a button to start them again will be here.
        </Empty>
      )}
      {data?.address && !data.connectors.length && <Empty>No connector was made there.</Empty>}
      {data?.connectors.map((one) => (
        <Section
          key={one.name}
          title={one.name}
          side={
            <RoleButton needs="operator" onClick={() => restart(one.name)}>
              Restart
            </RoleButton>
          }
        >
          <p>
            <Dot state={dot(one.state)} /> {one.state} <Badge>{one.type}</Badge>
          </p>
          <ul className="events">
            {one.tasks.map((task) => (
              <li key={task.id}>
                <Dot state={dot(task.state)} /> task {task.id}: {task.state}
                {task.trace && <pre className="json">{task.trace}</pre>}
              </li>
            ))}
          </ul>
        </Section>
      ))}
    </>
  );
}
