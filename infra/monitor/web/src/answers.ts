/** Written by `python -m infra.monitor.typescript_types` from the OpenAPI document. Not edited by hand. */

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** By bin of time: its start, answers with a label, those that were right, and who gave them. */
export interface AccuracyHistory {
  model: string;
  at_ms: number[];
  n: number[];
  right: number[];
  versions: string[];
}

/** One act, with its outcome as far as it is known. begun_ms: of its first line. */
export interface Act {
  audit_id: string;
  actor: string;
  role: string;
  action: string;
  subject: string;
  positions: string[];
  words: string;
  outcome: string;
  at_ms: number;
  begun_ms: number;
}

/** The newest first. */
export interface Acts {
  entries: Act[];
}

/** at_ms: when the broker took it. */
export interface Announcement {
  model: string;
  version: string;
  uri: string;
  digest: string;
  reason: string;
  actor: string;
  decided_ms: number;
  challengers: Challenger[];
  kind: string;
  at_ms: number;
}

/**
 * What a model version answers for. Canary: a share of the keys. Shadow: the same requests as the live version, for the
 * log alone.
 */
export type Arm = "live" | "canary" | "shadow";

export interface BlindSpots {
  detectors: Blindness[];
}

/** What the detector of a version does not see, in sentences. */
export interface Blindness {
  model: string;
  version: string;
  detector: string;
  blind: string[];
}

/** What does not change while the monitor runs. most_redrives: how often a letter may be sent again as it was. */
export interface Catalogue {
  topics: TopicAbout[];
  nodes: GraphNode[];
  edges: GraphEdge[];
  models: ShippedModel[];
  most_redrives: number;
}

export interface Challenge {
  reason: string;
  arm: "canary" | "shadow";
  source?: string | null;
  share?: number;
}

/**
 * A version that answers beside the live one.
 *
 * arm: canary answers a share of the requests; shadow answers a share beside, for the log alone.
 * digest: sha256 of the folder's manifest.
 * share: Of the keys, 0 to 1.
 * salt: Which keys: those whose hash with it is below the share; a key stays with its arm.
 * purpose: Whose it is: run (a judged candidate), watch (the version before, asked beside the new one), or nothing
 * where a person set it: only a person ends it.
 */
export interface Challenger {
  arm: string;
  version: string;
  uri: string;
  digest: string;
  share: number;
  salt: string;
  purpose: string;
}

/** value: the record in place of the one that failed, as JSON; as it was where there is none. */
export interface Chosen {
  topic: string;
  partition: number;
  offset: number;
  value?: Record<string, Json> | null;
}

export interface Connector {
  name: string;
  type: string;
  state: string;
  tasks: ConnectorTask[];
}

/** trace: why it failed, cut off. */
export interface ConnectorTask {
  id: number;
  state: string;
  trace: string;
}

/** address: null where no Kafka Connect is known. */
export interface Connectors {
  address: string | null;
  connectors: Connector[];
}

/** redriven: who sent it again, or null. */
export interface DeadLetter {
  position: [string, number, number];
  at_ms: number;
  key: string;
  group: string;
  code: string;
  message: string;
  step: string;
  worker: string;
  origin: string;
  attempt: number;
  redrives: number;
  request_id: string;
  bytes: number;
  redriven: string | null;
}

/** findings: the newest, oldest first. */
export interface Drift {
  watched: Watched[];
  findings: Finding[];
}

/**
 * How far a group is with a topic. rate: records per second. lag: records. lag_s: age of the first unread record, of
 * the worst
 * partition.
 */
export interface EdgeNow {
  rate: number;
  lag: number;
  lag_s: number;
}

/**
 * What the online store holds of an entity. state: fresh, stale or missing. recent: a user's last events with an item,
 * newest
 * first.
 */
export interface EntityFeatures {
  view: string;
  entity: string;
  state: string;
  event_age_s: number | null;
  changed_ms: number;
  valid_until_ms: number;
  values: Record<string, Json>;
  recent: RecentEvent[];
}

export interface Error {
  code: string;
  message: string;
}

/** default: what a reader gets, marked as such, where there is no value. */
export interface FeatureAbout {
  view: string;
  entity: string;
  name: string;
  kind: string;
  default: Json;
  meaning: string;
}

/** lag, lag_s and rate: as the last look saw them; null where the group committed nothing. */
export interface FeatureStep {
  step: string;
  group: string;
  topic: string;
  lag: number | null;
  lag_s: number | null;
  rate: number | null;
}

export interface Features {
  features: FeatureAbout[];
  steps: FeatureStep[];
}

/** A drift event; null is a number that the detector could not tell. at_ms: when the broker took it. */
export interface Finding {
  event_id: string;
  model: string;
  version: string;
  trigger: string;
  signal: string;
  statistic: number | null;
  p_value: number | null;
  effect: number | null;
  least_effect: number | null;
  in_a_row: number;
  window: number;
  window_n: number;
  baseline_n: number;
  baseline_mean: number | null;
  window_mean: number | null;
  from_ms: number;
  to_ms: number;
  baseline_ms: number;
  baseline_missing: number | null;
  window_missing: number | null;
  at_ms: number;
}

/** First offset of a partition that the new version answers. */
export interface FirstOffset {
  topic: string;
  partition: number;
  offset: number;
}

/** report: as the gate wrote it; empty where it cannot be read. */
export interface GateReport {
  run_key: string;
  at_ms: number;
  kind: string;
  words: string;
  report: Record<string, Json>;
}

/** busy_share: 0 to 1. */
export interface Gpu {
  index: string;
  name: string;
  busy_share: number;
  memory_bytes: number;
  memory_total_bytes: number;
}

/** group: of the readers, where it is an edge whose lag is known. */
export interface GraphEdge {
  source: string;
  target: string;
  group: string;
}

/** name: of the topic, group, job or store. */
export interface GraphNode {
  id: string;
  kind: "topic" | "worker" | "processor" | "job" | "store" | "person";
  name: string;
  owner: string;
  aside: boolean;
}

/**
 * wrong: what stands out, in words. waiting: dead letters that were not sent again. edges: by topic. A group that never
 * ran is
 * only `off`.
 */
export interface GroupNow {
  state: "running" | "stopped" | "failing" | "off";
  wrong: string[];
  edges: Record<string, EdgeNow>;
  loops: string[];
  waiting: number;
  busy_share: number;
  versions: Record<string, string>;
}

/** Of Flink. tasks: how many are in each state. busy_share: of its busiest task, 0 to 1. */
export interface Job {
  name: string;
  state: string;
  since_ms: number;
  tasks: Record<string, number>;
  busy_share: number;
}

/** Dead letters of one cause. n: all of them. waiting: those that were not redriven. message: of the newest. */
export interface LetterGroup {
  topic: string;
  group: string;
  step: string;
  code: string;
  n: number;
  waiting: number;
  first_ms: number;
  last_ms: number;
  message: string;
  retry_topic: string | null;
}

/**
 * groups: the most waiting first. run: the redrive that is under way, or the last one. not_shown: older letters, which
 * are on the
 * topics alone.
 */
export interface LetterGroups {
  groups: LetterGroup[];
  run: RedriveRun | null;
  not_shown: number;
}

/** letters: the newest, newest first. n: how many there are in all. */
export interface LetterPage {
  letters: DeadLetter[];
  n: number;
}

export interface LiveModel {
  version: string;
  challengers: Challenger[];
  decided_ms: number;
}

/**
 * running: whether it spoke of late. totals: since it began. now: figures of the last seconds. batch_rows: batches of
 * the last
 * minute by the upper edge of their rows; the last edge is null. notes: what keeps it from what was asked of it.
 * digests: of each
 * live version's folder, by model. busy_share: null where the loop said no number.
 */
export interface LoopNow {
  kind: string;
  task: string;
  state: string;
  pid: number;
  at_ms: number;
  versions: Record<string, string>;
  digests: Record<string, string>;
  notes: string[];
  paused_partitions: string[];
  busy_share: number | null;
  in_flight: number;
  running: boolean;
  totals: Record<string, number>;
  now: Record<string, number>;
  batch_rows: ([number | null, number])[];
}

/** Something that happened at a moment, drawn on charts. kind: rebalance, restart, swap, refused or redrive. */
export interface Mark {
  at_ms: number;
  kind: string;
  who: string;
  words: string;
}

/** marks: what happened meanwhile, oldest first. */
export interface MarkedSamples {
  at_ms: number[];
  series: Record<string, (number | null)[]>;
  marks: Mark[];
}

/** bytes: of its value. */
export interface Message {
  topic: string;
  partition: number;
  offset: number;
  timestamp_ms: number;
  key: string;
  headers: Record<string, string>;
  value: Json;
  bytes: number;
}

/**
 * answering: versions that workers say they answer with. spans: oldest first, the last one of an arm open. updates,
 * acks, reports:
 * newest first.
 */
export interface Model {
  name: string;
  live: string;
  challengers: Challenger[];
  answering: string[];
  spans: Span[];
  updates: Announcement[];
  acks: Swap[];
  reports: GateReport[];
}

/**
 * The state of a model from here on: the last record of a model is what every worker holds.
 *
 * model: Name of the model; also the key.
 * version: Version that answers: live.
 * uri: Where its folder lies: shipped:NAME or file:PATH.
 * digest: sha256 of the folder's manifest.
 * reason: Why, in words.
 * actor: Who or what decided.
 * decided_ms: When, milliseconds since the epoch.
 * challengers: At most one of an arm.
 * kind: What it is: promotion, rollback (what was left is not to come back), challenge (arms beside the live version),
 * or nothing where an older writer wrote it.
 */
export interface ModelUpdate {
  model: string;
  version: string;
  uri: string;
  digest: string;
  reason: string;
  actor: string;
  decided_ms: number;
  challengers: Challenger[];
  kind: string;
}

/** By name. */
export interface Models {
  models: Model[];
}

export interface Parity {
  views: ViewParity[];
}

/**
 * first: the oldest offset that is kept. end: the next one that is written. groups: positions of those that committed
 * there.
 */
export interface PartitionNow {
  partition: number;
  first: number;
  end: number;
  groups: Record<string, number>;
}

/** Of `up`. trouble: in words, where it dies again and again; else empty. */
export interface Process {
  name: string;
  pid: number;
  address: string;
  alive: boolean;
  trouble: string;
}

export interface Produce {
  key?: string;
  value: Record<string, Json>;
  headers?: Record<string, string>;
}

/** schema: the newest. examples: records of it, by name. example: a value that the schema takes. */
export interface ProduceForm {
  schema: Json;
  version: number;
  examples: Record<string, Json>;
  example: Json;
}

/** request_id: header ce_id of the record. */
export interface Produced {
  request_id: string;
  topic: string;
}

export interface Promote {
  source: string;
  reason: string;
}

/** A record as people read it. value: as Avro's own JSON spells it; where it does not decode, `not_decoded` says why. */
export interface ReadRecord {
  topic: string;
  partition: number;
  offset: number;
  timestamp_ms: number;
  key: string;
  headers: Record<string, string>;
  value: Json;
}

export interface Reasoned {
  reason: string;
}

export interface RecentEvent {
  item: string;
  kind: string;
  at_ms: number;
}

/**
 * scanned: how many records were looked at. next: by partition, where the following page begins (backwards: where it
 * ends), so that
 * pages together hold every record once; null at the end. cut: why there are fewer than asked for though more lie
 * there, or empty.
 */
export interface RecordPage {
  records: Message[];
  scanned: number;
  next: Record<string, number> | null;
  cut: string;
}

/** letters: chosen ones; or all of a topic that wait, of one step and code. */
export interface Redrive {
  letters?: Chosen[];
  all_of?: string | null;
  step?: string | null;
  error_code?: string | null;
  dry_run?: boolean;
  rate_per_s?: number;
  reason?: string;
}

/** ready: letters that would go, each once. targets: by retry topic, how many go there. run: where it was begun. */
export interface RedrivePlan {
  ready: [string, number, number][];
  refused: RefusedLetter[];
  targets: Record<string, number>;
  run: RedriveRun | null;
}

/**
 * n: letters that were to go. done: those that went. refused: those that may not. words: why it failed, or what was
 * left out.
 */
export interface RedriveRun {
  n: number;
  refused: number;
  actor: string;
  state: "running" | "done" | "failed";
  done: number;
  words: string;
}

export interface RefusedLetter {
  position: [string, number, number];
  why: string;
}

/** number: MLflow's. version: ours, which workers name in results. */
export interface RegisteredVersion {
  name: string;
  number: string;
  version: string;
  uri: string;
  digest: string;
  champion: boolean;
  created_ms: number;
  metrics: Record<string, number | null>;
}

/** registry: address of the MLflow server, null where none runs. versions: newest first. */
export interface RegisteredVersions {
  registry: string | null;
  versions: RegisteredVersion[];
}

/** records: those that name the request, in time order. whole: whether all that could was looked through in time. */
export interface RequestWay {
  request_id: string;
  records: ReadRecord[];
  whole: boolean;
}

export interface Restarted {
  restarted: string;
}

/** id: the registry's, which stands in front of each record. */
export interface SchemaVersion {
  version: number;
  id: number;
  schema: Json;
}

/**
 * compatibility: which readers and writers a new version must not break; empty where the subject has no level of its
 * own. versions:
 * oldest first.
 */
export interface SchemaVersions {
  subject: string;
  compatibility: string;
  versions: SchemaVersion[];
}

/** As Prometheus' http_sd_configs take it. */
export interface ScrapeTarget {
  targets: string[];
  labels: Record<string, string>;
}

export interface Session {
  role: string;
  actor: string;
}

export interface ShippedModel {
  name: string;
  version: string;
}

/** followed: whether the user did anything with it within the window; null before the window has ended. */
export interface ShownItem {
  item_id: string;
  title: string;
  score: Json;
  reason: string;
  propensity: Json;
  explored: boolean;
  followed: boolean | null;
}

/**
 * Shares of the entries in equal bins between the edges, one more than there are bins; all empty where nothing was
 * measured. unit:
 * empty, or what the edges are measured in where that is not the signal itself. findings: oldest first.
 */
export interface Signal {
  name: string;
  unit: string;
  edges: number[];
  baseline: number[];
  window: number[];
  findings: Finding[];
}

/**
 * at_ms: 0 before the first look. trouble: why nothing newer is known, in words; else empty. live: by model that was
 * announced.
 */
export interface Snapshot {
  at_ms: number;
  trouble: string;
  every_s: number;
  topics: Record<string, TopicNow>;
  groups: Record<string, GroupNow>;
  loops: Record<string, LoopNow>;
  jobs: Job[];
  gpus: Gpu[];
  processes: Process[];
  marks: Mark[];
  waiting: number;
  live: Record<string, LiveModel>;
}

/** A version in one arm. from_ms: 0 for the shipped version. to_ms: null while it lasts. share: of the keys, 0 to 1. */
export interface Span {
  arm: Arm;
  version: string;
  from_ms: number;
  to_ms: number | null;
  words: string;
  actor: string;
  share: number;
}

/** versions: how many there are. */
export interface Subject {
  subject: string;
  versions: number;
}

export interface Subjects {
  subjects: Subject[];
}

/** What a worker said of an announcement. at_ms: when the broker took it. */
export interface Swap {
  model: string;
  version: string;
  previous: string | null;
  worker: string;
  accepted: boolean;
  reason: string | null;
  loaded_ms: number;
  first_offsets: FirstOffset[];
  arm: string;
  digest: string;
  at_ms: number;
}

/**
 * kind: of our own, or one of the two that each group of readers has. subject: in the registry. aside: bookkeeping that
 * nearly
 * everything writes.
 */
export interface TopicAbout {
  name: string;
  kind: "topic" | "retry" | "dead letters";
  owner: string;
  partitions: number;
  config: Record<string, string>;
  record: string | null;
  key: string;
  subject: string;
  guarantee: string;
  writers: string[];
  readers: string[];
  compatibility: string;
  aside: boolean;
}

/** records: offsets kept, markers of transactions included. rate: records per second. */
export interface TopicNow {
  records: number;
  partitions: number;
  rate: number;
}

/**
 * about: null for a topic that is not ours. config: as the broker has it. schema: the newest, null where the topic has
 * none of its
 * own.
 */
export interface TopicPage {
  topic: string;
  about: TopicAbout | null;
  config: Record<string, string>;
  partitions: PartitionNow[];
  schema: Json;
  schema_version: number | null;
}

/** The newest first. */
export interface Training {
  runs: TrainingRun[];
}

/**
 * A step on the way from a cause to a new version. All of a run have its key.
 *
 * model: Also the key.
 * kind: asked, passed_over, launched, progress, trained, failed, judged, refused, canary, promoted, rolled_back.
 * words: What happened and why, for people.
 * cause: Id of the record behind it.
 * facts: For programs: version, digest, folder, pid, metrics.
 * at_ms: Epoch.
 */
export interface TrainingEvent {
  run_key: string;
  model: string;
  kind: string;
  words: string;
  cause: string;
  facts: Record<string, string>;
  at_ms: number;
}

/**
 * A model is to be trained anew. Repeats of a run key are the same request.
 *
 * run_key: Names the run; the same cause gives the same key.
 * model: Also the key.
 * version: The version that answered when it was decided.
 * reason: Why, in words.
 * causes: Ids of the drift events behind it; empty where a person asked.
 * actor: Who or what decided.
 * options: For the run: from_ms and since_ms, epoch, where its window and the drift begin; and what its trainer takes.
 * decided_ms: Epoch.
 */
export interface TrainingRequest {
  run_key: string;
  model: string;
  version: string;
  reason: string;
  causes: string[];
  actor: string;
  options: Record<string, string>;
  decided_ms: number;
}

/**
 * state: kind of its last event, `asked` before the first. passed_over: findings that asked for nothing new. events:
 * oldest first,
 * without those and without the gate's reports.
 */
export interface TrainingRun {
  run_key: string;
  model: string;
  version: string;
  reason: string;
  causes: string[];
  actor: string;
  options: Record<string, string>;
  decided_ms: number;
  at_ms: number;
  state: string;
  passed_over: number;
  events: TrainingEvent[];
}

/** engaged: what its label says of the answer; null before there is one. note: what the user did, in words. */
export interface UserAnswer {
  request_id: string;
  at_ms: number;
  status: string;
  error: string;
  basis: string;
  model: string;
  index_version: string;
  candidates: number;
  seen: number;
  notes: string[];
  items: ShownItem[];
  engaged: boolean | null;
  note: string;
}

/** answers: newest first. cut: why there may be more, or empty. */
export interface UserAnswers {
  answers: UserAnswer[];
  cut: string;
}

/**
 * Entities of a sample in both stores. features: of each. not_compared: one store had what the other could not have
 * yet. different:
 * by feature, how many entities differ. problems: why the comparison is no proof, in sentences.
 */
export interface ViewParity {
  view: string;
  features: number;
  entities: number;
  sampled: number;
  not_compared: number;
  different: Record<string, number>;
  agrees: boolean;
  problems: string[];
}

/**
 * One version of a model under one detector. windows: complete ones so far. streaks: by trigger/signal, windows in a
 * row that
 * fired. note: why its baseline began anew or was cut.
 */
export interface Watched {
  detector: string;
  model: string;
  version: string;
  windows: number;
  streaks: Record<string, number>;
  seen_ms: number;
  baseline_n: number;
  window_n: number;
  note: string;
  signals: Signal[];
}
