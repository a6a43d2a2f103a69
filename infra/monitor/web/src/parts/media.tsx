/** Pictures and sounds of a record, behind a click: a blob of a fixed type, in an element that runs nothing. */
import { useEffect, useMemo, useState } from "react";
import type { Json } from "../api";
import { bytes } from "../format";
import { bytesOf, type Media, mediaIn } from "../media";

export function MediaList({ value }: { value: Json }) {
  const found = useMemo(() => mediaIn(value), [value]);
  if (!found.length) return null;
  return (
    <ul className="media" aria-label="Pictures and sounds">
      {found.map((one) => (
        <MediaItem key={`${one.path}/${one.text.length}`} media={one} />
      ))}
    </ul>
  );
}

function MediaItem({ media }: { media: Media }) {
  const [url, setUrl] = useState<string | null>(null);
  const [broken, setBroken] = useState(false);
  useEffect(() => () => (url ? URL.revokeObjectURL(url) : undefined), [url]);
  const kind = media.type.startsWith("image/") ? "picture" : "sound";
  const show = () => {
    const raw = bytesOf(media.text);
    if (raw) setUrl(URL.createObjectURL(new Blob([raw], { type: media.type })));
    else setBroken(true);
  };
  return (
    <li>
      <code>{media.path || "value"}</code>{" "}
      <span className="dim">
        {media.type}, {bytes(media.text.length)}
      </span>
      {broken && <p className="dim">this is not a {kind} that the browser can read</p>}
      {url === null && !broken && (
        <button type="button" onClick={show}>
          Show {kind}
        </button>
      )}
      {url !== null && !broken && kind === "picture" && (
        <img src={url} alt={media.path} onError={() => setBroken(true)} />
      )}
      {url !== null && !broken && kind === "sound" && (
        // biome-ignore lint/a11y/useMediaCaption: it is whatever somebody sent
        <audio src={url} controls onError={() => setBroken(true)} />
      )}
    </li>
  );
}
