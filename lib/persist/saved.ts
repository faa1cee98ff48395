// The types of saved data and of the objects that can be saved.

/** An object that can be saved and restored: any limiter, or a `PolicyLimiter`. */
export interface Persistent {
  /** Returns the state as plain JSON data, which later changes of the object do not affect. */
  snapshot(): object;
  /** Restores a snapshot, or throws and changes nothing. Returns the number of restored peers, if it counts them. */
  restore(snapshot: object): unknown;
  /** Yields the snapshot in slices; the limiter may be used between two slices. For limiters with very many peers. */
  snapshotSlices?(): Iterable<object>;
  /** Restores slices in steps. Each step yields the number of peers restored so far. */
  restoreSlices?(slices: Iterable<object>): Iterable<number>;
}

/** A slice and the time at which it was taken. */
export interface Saved {
  /** Wall clock, milliseconds since 1970. */
  readonly savedAt: number;
  readonly snapshot: object;
}
