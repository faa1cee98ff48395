// Says that a limiter has changed as a whole, by `clear` or `update`: what it has refused before may be allowed now. The guards
// listen, since messages wait for its buckets.

const LISTENERS = new WeakMap<object, () => void>();

/** Sets the function that is called when the limiter changes; each limiter has at most one. */
export function onChange(limiter: object, listener: () => void): void {
  LISTENERS.set(limiter, listener);
}

/** Call it when the change is complete. */
export function limiterChanged(limiter: object): void {
  LISTENERS.get(limiter)?.();
}
