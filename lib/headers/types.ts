// What the headers of a response say about rate limits. The types are the same for all generations of headers.

/** A quota that a server announces: at most `quota` units per window. */
export interface QuotaPolicy {
  /** The policy's name; null if this generation of headers has no names. */
  name: string | null;
  /** Units per window. */
  quota: number;
  /** The window's length in seconds; null if the server does not say. */
  windowSeconds: number | null;
  /** What is counted; `requests` unless the server says otherwise. */
  unit: string;
  /** The partition key's bytes in canonical base64; null if there is no partition key. */
  partitionKey: string | null;
  /** Parameters that no draft defines. */
  parameters: Record<string, unknown>;
}

/** How a policy's partition keys are built, as the next draft lets a server say. */
export interface PartitionScheme {
  /** The name of the policy. */
  name: string;
  /** The parts of the partition key, such as `user_id` and `method`. */
  keys: string[];
}

/** What remains of a quota. */
export interface ServiceLimit {
  /** The name of the policy; null if this generation of headers has no names. */
  name: string | null;
  /** Units per window; null if the limit does not repeat them. */
  limit: number | null;
  /** Units available now. */
  remaining: number | null;
  /** Seconds from the receipt of the response within which at most `remaining` units may be used. */
  resetSeconds: number | null;
  /** The partition key's bytes in canonical base64; null if there is no partition key. */
  partitionKey: string | null;
  /** The units that this request cost; null if the server does not say. */
  cost: number | null;
  /** What is counted, such as `requests` or `tokens`. Present only if the fields say so. */
  unit?: string;
  /**
   * Whether `resetSeconds` is exact, and not rounded to whole seconds by the server. Present only if it differs from
   * what the number suggests: without it, a number with a fraction is exact and a whole number is not.
   */
  exact?: boolean;
}

/** What one response says about rate limits. */
export interface RateLimitInfo {
  policies: QuotaPolicy[];
  limits: ServiceLimit[];
  /** Seconds to wait from the receipt of the response; null if there is no valid `Retry-After`. */
  retryAfterSeconds: number | null;
  /** The names of invalid fields; `name[item]` if only some items of the field are invalid. */
  ignored: string[];
  /** Present only if the server sends partition schemes. */
  partitions?: PartitionScheme[];
}
