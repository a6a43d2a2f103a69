/** A record typed by a person, checked against the schema by the server. */
import { useMutation } from "@tanstack/react-query";
import { useEffect, useMemo, useState } from "react";
import { type Json, type Produced, type ProduceForm, post } from "../api";
import { exactly } from "../exact";
import { at } from "../router";
import { Dialog, JsonText, Link, Trouble, useGet } from "./basic";

export function ProduceDialog({ topic, onClose }: { topic: string; onClose: () => void }) {
  const form = useGet<ProduceForm>(`topics/${encodeURIComponent(topic)}/form`);
  const [key, setKey] = useState("");
  const [text, setText] = useState("");
  const choices = useMemo<Record<string, Json>>(
    () => ({ ...(form.data?.examples ?? {}), "of the schema": form.data?.example ?? null }),
    [form.data],
  );
  useEffect(() => {
    if (form.data && !text) setText(JSON.stringify(Object.values(choices)[0], null, 2));
  }, [form.data]);
  const sent = useMutation({
    mutationFn: async () =>
      post<Produced>(`topics/${encodeURIComponent(topic)}/records`, { key, value: exactly(text) as Json }),
  });
  return (
    <Dialog title={`Produce to ${topic}`} onClose={onClose} wide>
      {form.error && <Trouble error={form.error} />}
      {form.data && (
        <form
          onSubmit={(event) => {
            event.preventDefault();
            sent.mutate();
          }}
        >
          <div className="two">
            <div>
              <label>
                key
                <input value={key} onChange={(event) => setKey(event.target.value)} />
              </label>
              <label>
                start from{" "}
                <select onChange={(event) => setText(JSON.stringify(choices[event.target.value], null, 2))}>
                  {Object.keys(choices).map((one) => (
                    <option key={one}>{one}</option>
                  ))}
                </select>
              </label>
              <label>
                value, as JSON
                <textarea rows={16} value={text} onChange={(event) => setText(event.target.value)} spellCheck={false} />
              </label>
            </div>
            <div>
              <p className="hint">
                schema, version {form.data.version}; bytes are text with a character a byte, a field with a default may
                be left out
              </p>
              <JsonText value={form.data.schema} />
            </div>
          </div>
          {sent.error && <Trouble error={sent.error} />}
          {sent.data && (
            <p role="status">
              sent; <Link to={at("requests", sent.data.request_id)}>its way through the topics</Link>
            </p>
          )}
          <div className="buttons">
            <button type="submit" className="main">
              Send
            </button>
          </div>
        </form>
      )}
    </Dialog>
  );
}
