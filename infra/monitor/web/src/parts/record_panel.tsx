/** One record, whole. */
import type { Message } from "../api";
import { bytes, exact } from "../format";
import { withoutBytes } from "../media";
import { at, go, withParams } from "../router";
import { notDecoded } from "../values";
import { JsonText, Link, Pairs, Trouble, useGet } from "./basic";
import { LeftOut } from "./left_out";
import { MediaList } from "./media";

export function RecordPanel({ topic, position }: { topic: string; position: string }) {
  const [partition, offset] = position.split(":");
  const path = `topics/${encodeURIComponent(topic)}/records/${partition}/${offset}`;
  const { data, error } = useGet<Message>(path);
  const why = data ? notDecoded(data.value) : null;
  const id = data?.headers["ce_id"];
  return (
    <aside className="one" aria-label={`Record ${position}`}>
      <header>
        <h3>
          {partition}@{offset}
        </h3>
        <a className="button" href={`/api/${path}/raw`} download>
          raw value
        </a>
        {id && (
          <Link className="button" to={at("requests", id)}>
            whole way
          </Link>
        )}
        <button type="button" className="quiet" aria-label="Close" onClick={() => go(withParams({ open: null }), true)}>
          ✕
        </button>
      </header>
      {error && <Trouble error={error} />}
      {data && (
        <>
          {why !== null && <div className="trouble">This record does not decode: {why}</div>}
          <LeftOut value={data.value} />
          <MediaList value={data.value} />
          <dl className="pairs">
            <dt>written</dt>
            <dd>{exact(data.timestamp_ms)}</dd>
            <dt>key</dt>
            <dd>
              <code>{data.key}</code>
            </dd>
            <dt>size</dt>
            <dd>{bytes(data.bytes)}</dd>
          </dl>
          <h4>value</h4>
          <JsonText value={withoutBytes(data.value)} />
          <h4>headers</h4>
          <Pairs of={Object.entries(data.headers)} />
        </>
      )}
    </aside>
  );
}
