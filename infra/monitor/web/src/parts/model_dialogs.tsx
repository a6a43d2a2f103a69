/** What a person may do about a model, and the report of the gate. */
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { type GateReport, type Model, type ModelUpdate, post, type TrainingRequest } from "../api";
import { share } from "../format";
import { at } from "../router";
import { Badge, Dialog, Figure, JsonText, Link, Trouble } from "./basic";
import { type Column, Table } from "./table";

interface Judged {
  labelled: number;
  champion: number;
  candidate: number;
  low: number;
  high: number;
}
/** Request, part, output, and its value by champion and candidate. */
type Changed = [string, string, string, number, number];
interface Gate {
  passes?: boolean;
  reasons?: string[];
  champion?: string;
  candidate?: string;
  offsets?: string;
  entries?: number;
  agreement?: number;
  time_ratio?: number;
  size_ratio?: number;
  accuracy?: Judged | null;
  parts?: Record<string, Judged | null>;
  changed?: Changed[];
  drift?: Record<string, [number, number]>;
  losses?: number[];
}

const JUDGED: Column<[string, Judged]>[] = [
  { head: "right answers on", cell: ([name]) => name },
  { head: "labelled", cell: ([, one]) => one.labelled, right: true },
  { head: "champion", cell: ([, one]) => share(one.champion), right: true },
  { head: "candidate", cell: ([, one]) => share(one.candidate), right: true },
  { head: "difference, 95 %", cell: ([, one]) => `${one.low.toFixed(3)} to ${one.high.toFixed(3)}`, right: true },
];

const CHANGED: Column<Changed>[] = [
  {
    head: "request",
    cell: ([id, part]) => (
      <>
        <Link to={at("requests", id)}>{id}</Link> {part}
      </>
    ),
  },
  { head: "output", cell: ([, , output]) => output },
  { head: "champion", cell: ([, , , was]) => was.toFixed(3), right: true },
  { head: "candidate", cell: ([, , , , now]) => now.toFixed(3), right: true },
];

export function GateReportDialog({ found, onClose }: { found: GateReport; onClose: () => void }) {
  const report = found.report as unknown as Gate;
  const judged = Object.entries({ "all labelled requests held back": report.accuracy, ...report.parts }).filter(
    (one): one is [string, Judged] => Boolean(one[1]),
  );
  return (
    <Dialog title={`Gate: ${report.candidate ?? ""} beside ${report.champion ?? ""}`} onClose={onClose} wide>
      <p>
        <Badge kind={found.kind === "judged" ? "good" : "refused"}>
          {found.kind === "judged" ? "passed" : "refused"}
        </Badge>{" "}
        {found.words}
      </p>
      {report.reasons && report.reasons.length > 0 && (
        <ul className="reasons">
          {report.reasons.map((why) => (
            <li key={why}>{why}</li>
          ))}
        </ul>
      )}
      <dl className="figures">
        <Figure name="requests through both">{report.entries ?? "–"}</Figure>
        <Figure name="answers agree">{report.agreement === undefined ? "–" : share(report.agreement)}</Figure>
        <Figure name="time, candidate to champion">{report.time_ratio?.toFixed(2) ?? "–"}×</Figure>
        <Figure name="size">{report.size_ratio?.toFixed(2) ?? "–"}×</Figure>
        <Figure name="offsets">{report.offsets ?? "–"}</Figure>
      </dl>
      {judged.length > 0 && <Table name="Answered right" rows={judged} columns={JUDGED} rowKey={([name]) => name} />}
      {report.changed && report.changed.length > 0 && (
        <>
          <h3>Decisions that change, the largest first</h3>
          <Table
            name="Changed decisions"
            rows={report.changed}
            columns={CHANGED}
            rowKey={([id, part, output]) => `${id}/${part}/${output}`}
          />
        </>
      )}
      <h3>All of it</h3>
      <JsonText value={found.report} />
    </Dialog>
  );
}

export const WORDS = {
  promote: "Promote a version",
  rollback: "Bring back the version before",
  challenge: "Canary or shadow",
  train: "Ask for a training run",
};

export function ModelActionDialog({
  what,
  model,
  onClose,
}: {
  what: keyof typeof WORDS;
  model: Model;
  onClose: () => void;
}) {
  const [source, setSource] = useState("");
  const [reason, setReason] = useState("");
  const [arm, setArm] = useState("canary");
  const [part, setPart] = useState(10);
  const body =
    what === "promote"
      ? { source, reason }
      : what === "challenge"
        ? { source: source || null, reason, arm, share: part / 100 }
        : { reason };
  const {
    data: said,
    error,
    isPending,
    mutate,
  } = useMutation({
    mutationFn: () => post<ModelUpdate | TrainingRequest>(`models/${model.name}/${what}`, body),
  });
  return (
    <Dialog title={`${WORDS[what]}: ${model.name}`} onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          mutate();
        }}
      >
        {what === "challenge" && (
          <label>
            arm
            <select value={arm} onChange={(event) => setArm(event.target.value)}>
              <option value="canary">canary: answers a share of the keys</option>
              <option value="shadow">shadow: computes beside, for the log alone</option>
            </select>
          </label>
        )}
        {(what === "promote" || what === "challenge") && (
          <label>
            version
            <input
              value={source}
              onChange={(event) => setSource(event.target.value)}
              required={what === "promote"}
              placeholder={
                what === "challenge"
                  ? "a folder, shipped:NAME, hf:ID, or a number; empty ends the arm"
                  : "a folder, shipped:NAME, hf:ID, or a number of the registry"
              }
            />
          </label>
        )}
        {what === "challenge" && (
          <label>
            share of the keys, %
            <input
              type="number"
              min={1}
              max={100}
              value={part}
              onChange={(event) => setPart(Number(event.target.value))}
            />
          </label>
        )}
        <label>
          why
          <input value={reason} onChange={(event) => setReason(event.target.value)} required maxLength={500} />
        </label>
        {error && <Trouble error={error} />}
        {said && (
          <p role="status">
            done: {"run_key" in said ? said.run_key : said.version} is on the topic; what workers answer shows here
          </p>
        )}
        <div className="buttons">
          <button type="submit" className="main" disabled={isPending || said !== undefined}>
            {isPending ? "…" : WORDS[what]}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
