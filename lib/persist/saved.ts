// What is saved, and by whom.

/** Whatever can write down what it knows, and take it back: all limiters, and `PolicyLimiter`. */
export interface Persistent {
  /** Plain data that JSON keeps, and that stays as it is. */
  snapshot(): object;
  /** Takes it back, or throws and changes nothing; a number is how many peers came back. */
  restore(snapshot: object): unknown;
  /** The same in slices, between which the limiter may be used. Limiters of very many peers have this. */
  snapshotSlices?(): Iterable<object>;
  /** Takes slices back in steps, each of which yields how many peers came back so far. */
  restoreSlices?(slices: Iterable<object>): Iterable<number>;
}

/** A slice, and when it was taken. */
export interface Saved {
  /** Wall clock, milliseconds since 1970. */
  readonly savedAt: number;
  readonly snapshot: object;
}
