// What the headers of a response say about rate limits, whichever generation said it.

/** A quota that a server advertises: so many units in each window. */
export interface QuotaPolicy {
  /** Which policy; null where the generation has no names. */
  name: string | null;
  /** Units a window. */
  quota: number;
  /** Seconds; null where it is not told. */
  windowSeconds: number | null;
  /** What is counted: `requests` unless told otherwise. */
  unit: string;
  /** Canonical base64 of the partition key's bytes; null where there is none. */
  partitionKey: string | null;
  /** Parameters that no draft names. */
  parameters: Record<string, unknown>;
}

/** What a request is told apart by, as the draft to come lets a server say it. */
export interface PartitionScheme {
  /** The policy that it belongs to. */
  name: string;
  /** The parts that the partition key is made of, such as `user_id` and `method`. */
  keys: string[];
}

/** What is left of a quota now. */
export interface ServiceLimit {
  name: string | null;
  /** Units a window, where the generation repeats it here. */
  limit: number | null;
  /** Units available now. */
  remaining: number | null;
  /** Seconds, from receipt, within which no more than `remaining` may be used. */
  resetSeconds: number | null;
  partitionKey: string | null;
  /** What this request cost, where the server tells. */
  cost: number | null;
}

/** What one response said about rate limits. */
export interface RateLimitInfo {
  policies: QuotaPolicy[];
  limits: ServiceLimit[];
  /** Seconds to wait, from receipt. */
  retryAfterSeconds: number | null;
  /** Names of the fields that could not be read; `name[item]` where only some items could not. */
  ignored: string[];
  /** Present only where the server says it. */
  partitions?: PartitionScheme[];
}
