// A value that is available immediately or by a promise. Code that handles an immediate value runs synchronously:
// it waits for no microtask.

export type MaybePromise<Value> = Value | PromiseLike<Value>;

/** Calls `map` with the value: immediately, or when its promise resolves. */
export function mapMaybePromise<Value, Result>(
  value: MaybePromise<Value>,
  map: (value: Value) => MaybePromise<Result>,
): MaybePromise<Result> {
  return isPromise(value) ? value.then(map) : map(value);
}

export function isPromise<Value>(value: MaybePromise<Value>): value is PromiseLike<Value> {
  return typeof (value as PromiseLike<Value> | null | undefined)?.then === 'function';
}
