/** Dead letters sent again: what would happen, and mending one first. */
import { useMutation } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { type DeadLetter, type Json, type Message, type ProduceForm, post, type RedrivePlan } from "../api";
import { exactly } from "../exact";
import { count } from "../format";
import { withoutBytes } from "../media";
import { at } from "../router";
import { notDecoded } from "../values";
import { Dialog, JsonText, Link, Pairs, RoleButton, Trouble, useGet } from "./basic";
import { MediaList } from "./media";

/** Asks what a redrive would do, or begins it; both answer with the plan. order: throws where it cannot be sent. */
function useRedrive() {
  const { data, error, variables, mutate } = useMutation({
    mutationFn: async ({ dry_run, order }: { dry_run: boolean; order: () => Record<string, unknown> }) =>
      post<RedrivePlan>("deadletters/redrive", { ...order(), dry_run }),
  });
  const sent = data !== undefined && variables?.dry_run === false;
  const said = (
    <>
      {error && <Trouble error={error} />}
      {data && <PlanSaid plan={data} sent={sent} />}
    </>
  );
  return { ask: mutate, sent, said };
}

/** First what would happen, then, with a token, the sending. */
export function RedriveDialog({
  title,
  body,
  onClose,
}: {
  title: string;
  body: Record<string, unknown>;
  onClose: () => void;
}) {
  const [rate, setRate] = useState(100);
  const [reason, setReason] = useState("");
  const { ask, sent, said } = useRedrive();
  const order = () => ({ ...body, rate_per_s: rate, reason });
  return (
    <Dialog title={title} onClose={onClose}>
      <p>
        Each goes to its group’s own retry topic, with the number of the redrive one higher: no other group reads it
        again, and its answer says what it supersedes.
      </p>
      <div className="form">
        <label>
          at most, a second
          <input
            type="number"
            min={1}
            max={10000}
            value={rate}
            onChange={(event) => setRate(Number(event.target.value))}
          />
        </label>
        <label>
          why
          <input
            value={reason}
            onChange={(event) => setReason(event.target.value)}
            maxLength={500}
            placeholder="for the line of audit"
          />
        </label>
      </div>
      {said}
      <div className="buttons">
        <RoleButton needs="operator" onClick={() => ask({ dry_run: true, order })}>
          Dry run
        </RoleButton>
        {!sent && (
          <RoleButton needs="operator" kind="main" onClick={() => ask({ dry_run: false, order })}>
            Redrive
          </RoleButton>
        )}
        {sent && (
          <button type="button" className="main" onClick={onClose}>
            Close
          </button>
        )}
      </div>
    </Dialog>
  );
}

const PlanSaid = ({ plan, sent }: { plan: RedrivePlan; sent: boolean }) => (
  <div role="status">
    <p>
      <b>{count(plan.ready.length)}</b> {sent ? "are being sent" : "would be sent"}
      {Object.entries(plan.targets).map(([topic, n]) => (
        <span key={topic}>
          {" "}
          · {count(n)} to <code>{topic}</code>
        </span>
      ))}
    </p>
    {plan.refused.length > 0 && (
      <ul className="reasons">
        {plan.refused.slice(0, 20).map((one) => (
          <li key={one.position.join("/")}>
            <code>
              {one.position[1]}@{one.position[2]}
            </code>{" "}
            {one.why}
          </li>
        ))}
        {plan.refused.length > 20 && <li>and {count(plan.refused.length - 20)} more</li>}
      </ul>
    )}
  </div>
);

/** One letter: why it is dead, what it holds, and a place to mend it. */
export function MendLetterDialog({ letter, onClose }: { letter: DeadLetter; onClose: () => void }) {
  const [topic, partition, offset] = letter.position;
  const path = `topics/${encodeURIComponent(topic)}/records/${partition}/${offset}`;
  const record = useGet<Message>(path);
  const source = letter.origin.split("/")[0] ?? "";
  const bad = record.data !== undefined && notDecoded(record.data.value) !== null;
  const form = useGet<ProduceForm>(
    bad && source && source !== "?" ? `topics/${encodeURIComponent(source)}/form` : null,
  );
  const [text, setText] = useState("");
  const { ask, sent, said } = useRedrive();
  useEffect(() => {
    if (record.data && !bad && !text) setText(JSON.stringify(record.data.value, null, 2));
    if (bad && form.data && !text)
      setText(JSON.stringify(Object.values(form.data.examples)[0] ?? form.data.example, null, 2));
  }, [record.data, form.data]);
  const asItWas = () => ({ letters: [{ topic, partition, offset, value: null }], reason: "" });
  const mended = () => ({
    letters: [{ topic, partition, offset, value: exactly(text) as Json }],
    reason: "mended by hand",
  });
  return (
    <Dialog title={`${topic} ${partition}@${offset}`} onClose={onClose} wide>
      <div className="trouble">
        {letter.code} in {letter.step}: {letter.message}
      </div>
      <div className="two">
        <div>
          <dl className="pairs">
            <dt>came from</dt>
            <dd>{letter.origin}</dd>
            <dt>set aside by</dt>
            <dd>{letter.worker}</dd>
            <dt>key</dt>
            <dd>
              <code>{letter.key}</code>
            </dd>
            <dt>request</dt>
            <dd>
              <Link to={at("requests", letter.request_id)}>{letter.request_id}</Link>
            </dd>
          </dl>
          <h4>headers</h4>
          <Pairs of={Object.entries(record.data?.headers ?? {})} />
          <h4>as it came</h4>
          {record.data && (
            <>
              <MediaList value={record.data.value} />
              <JsonText value={withoutBytes(record.data.value)} />
            </>
          )}
          <p>
            <a href={`/api/${path}/raw`} download>
              its bytes
            </a>
          </p>
        </div>
        <div>
          <label>
            mended value, as JSON
            <textarea
              aria-label="Mended value"
              rows={20}
              value={text}
              onChange={(event) => setText(event.target.value)}
              spellCheck={false}
            />
          </label>
          {bad && <p className="hint">It does not decode, so this starts from an example of {source}.</p>}
        </div>
      </div>
      {said}
      <div className="buttons">
        <RoleButton needs="operator" onClick={() => ask({ dry_run: true, order: mended })}>
          Dry run
        </RoleButton>
        <RoleButton needs="operator" onClick={() => ask({ dry_run: false, order: asItWas })} disabled={sent}>
          Redrive as it was
        </RoleButton>
        <RoleButton needs="operator" kind="main" onClick={() => ask({ dry_run: false, order: mended })} disabled={sent}>
          Redrive mended
        </RoleButton>
      </div>
    </Dialog>
  );
}
