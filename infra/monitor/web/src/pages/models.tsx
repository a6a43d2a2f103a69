/** Models: who was live when, beside whom, with latency and accuracy under the same axis; and what a person may do about it. */
import { useState } from "react";
import type { Models as Answer, GateReport, Model, RegisteredVersion, RegisteredVersions } from "../api";
import { ago, clock, exact, millis, share, significant } from "../format";
import { Badge, Empty, Figure, Link, PageTitle, RoleButton, Section, Trouble, useGet } from "../parts/basic";
import { Axis, ModelCharts } from "../parts/model_charts";
import { GateReportDialog, ModelActionDialog, type WORDS } from "../parts/model_dialogs";
import { type Column, Table } from "../parts/table";
import { at, go, usePlace, withParams } from "../router";

const HOURS = [0.25, 1, 6, 24, 168];

export default function Models({ only }: { only: string }) {
  const { data, error } = useGet<Answer>("models", 3000);
  const { params } = usePlace();
  const hours = Number(params.get("hours") ?? 1);
  const models = (data?.models ?? []).filter((one) => !only || one.name === only);
  return (
    <>
      <PageTitle name="Models" path="/models" only={only}>
        <div className="choices" role="group" aria-label="Time shown">
          {HOURS.map((one) => (
            <button
              type="button"
              key={one}
              className={hours === one ? "on" : ""}
              aria-pressed={hours === one}
              onClick={() => go(withParams({ hours: one === 1 ? null : String(one) }), true)}
            >
              {one < 1 ? `${60 * one} min` : one < 24 ? `${one} h` : `${one / 24} d`}
            </button>
          ))}
        </div>
      </PageTitle>
      {error && <Trouble error={error} />}
      {data && !models.length && (
        <Empty command="./millrace models promote moderation-text FOLDER --reason &quot;…&quot;">
          There is no model {only}.
        </Empty>
      )}
      {models.map((one) => (
        <ModelSection key={one.name} model={one} hours={hours} whole={Boolean(only)} />
      ))}
    </>
  );
}

function ModelSection({ model, hours, whole }: { model: Model; hours: number; whole: boolean }) {
  const [doing, setDoing] = useState<keyof typeof WORDS | null>(null);
  const [report, setReport] = useState<GateReport | null>(null);
  const lagging = model.answering.filter(
    (version) => version !== model.live && !model.challengers.some((one) => one.version === version),
  );
  return (
    <Section
      id={model.name}
      title={<Link to={at("models", model.name)}>{model.name}</Link>}
      side={
        !whole ? undefined : (
          <>
            <RoleButton needs="releaser" onClick={() => setDoing("promote")}>
              Promote…
            </RoleButton>
            <RoleButton needs="releaser" onClick={() => setDoing("challenge")}>
              Canary or shadow…
            </RoleButton>
            <RoleButton needs="releaser" onClick={() => setDoing("rollback")}>
              Roll back…
            </RoleButton>
            <RoleButton needs="operator" onClick={() => setDoing("train")}>
              Train…
            </RoleButton>
          </>
        )
      }
    >
      <dl className="figures">
        <Figure name="live">{model.live || "–"}</Figure>
        {model.challengers.map((one) => (
          <Figure key={one.arm} name={`${one.arm}, ${share(one.share)} of the keys`}>
            {one.version}
          </Figure>
        ))}
        <Figure name="workers answer with" kind={lagging.length ? "bad" : ""}>
          {model.answering.join(", ") || "no worker runs"}
        </Figure>
        <Figure name="announced">
          {model.updates[0] ? (
            <span title={exact(model.updates[0].decided_ms)}>
              {ago(model.updates[0].decided_ms, Date.now())} by {model.updates[0].actor}
            </span>
          ) : (
            "never: it is the version to start with"
          )}
        </Figure>
      </dl>
      <Axis spans={model.spans} hours={hours} />
      {whole && <ModelCharts model={model} hours={hours} />}
      {whole && <Versions name={model.name} />}
      {whole && (
        <div className="columns">
          <div>
            <h3>What was announced</h3>
            {model.updates.length ? (
              <ul className="events">
                {model.updates.map((one, i) => (
                  <li key={i}>
                    <time title={exact(one.decided_ms)}>{clock(one.decided_ms)}</time>{" "}
                    <Badge kind="good">{one.version}</Badge>{" "}
                    {one.challengers.map((c) => (
                      <Badge key={c.arm}>
                        {c.arm} {c.version}, {share(c.share)}
                      </Badge>
                    ))}{" "}
                    {one.reason} <span className="dim">({one.actor})</span>
                  </li>
                ))}
              </ul>
            ) : (
              <p className="dim">nothing yet: workers answer with the shipped version</p>
            )}
          </div>
          <div>
            <h3>What workers did</h3>
            {model.acks.length ? (
              <ul className="events">
                {model.acks.map((one, i) => (
                  <li key={i}>
                    <time title={exact(one.at_ms)}>{clock(one.at_ms)}</time>{" "}
                    <Badge kind={one.accepted ? "swap" : "refused"}>{one.accepted ? "swapped" : "refused"}</Badge>{" "}
                    {one.worker}: {one.version}
                    {one.arm !== "live" && ` as ${one.arm}`}{" "}
                    {one.accepted ? (
                      <span className="dim">
                        loaded in {millis(one.loaded_ms)}; from{" "}
                        {one.first_offsets.map((o) => `${o.partition}@${o.offset}`).join(", ")}
                      </span>
                    ) : (
                      one.reason
                    )}
                  </li>
                ))}
              </ul>
            ) : (
              <p className="dim">no swap yet</p>
            )}
          </div>
        </div>
      )}
      {model.reports.length > 0 && (
        <>
          <h3>Reports of the gate</h3>
          <ul className="events">
            {model.reports.slice(0, whole ? 50 : 3).map((one) => (
              <li key={one.run_key + one.kind}>
                <time title={exact(one.at_ms)}>{clock(one.at_ms)}</time>{" "}
                <Badge kind={one.kind === "judged" ? "good" : "refused"}>
                  {one.kind === "judged" ? "passed" : "refused"}
                </Badge>{" "}
                <button type="button" className="linkish" onClick={() => setReport(one)}>
                  {one.words}
                </button>
              </li>
            ))}
          </ul>
        </>
      )}
      {report && <GateReportDialog found={report} onClose={() => setReport(null)} />}
      {doing && <ModelActionDialog what={doing} model={model} onClose={() => setDoing(null)} />}
    </Section>
  );
}

const VERSIONS: Column<RegisteredVersion>[] = [
  {
    head: "number",
    cell: (one) => (
      <>
        {one.number} {one.champion && <Badge kind="good">champion</Badge>}
      </>
    ),
  },
  { head: "version", cell: (one) => one.version },
  { head: "digest", cell: (one) => <code>{one.digest.slice(0, 12)}</code> },
  {
    head: "figures",
    cell: (one) =>
      Object.entries(one.metrics)
        .slice(0, 6)
        .map(([key, value]) => (
          <span className="pair" key={key}>
            {key} {significant(value, 4)}
          </span>
        )),
  },
];

function Versions({ name }: { name: string }) {
  const { data, error } = useGet<RegisteredVersions>(`models/${name}/versions`);
  return (
    <>
      <h3>Versions in the registry</h3>
      {error && <Trouble error={error} />}
      {data?.versions.length ? (
        <Table name="Versions" rows={data.versions} columns={VERSIONS} rowKey={(one) => one.number} />
      ) : (
        data && (
          <p className="dim">
            {data.registry ? (
              "the registry holds none of this name"
            ) : (
              <>
                no MLflow runs: <code>MILLRACE_MLFLOW=local ./millrace up</code> starts one. Versions answer without it
                too
              </>
            )}
          </p>
        )
      )}
    </>
  );
}
