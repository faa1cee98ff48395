// Answers that are there at once or come by a promise. Where none does, nothing waits.

/** Goes on with a value now, or with a promised one when it is there. */
export function whenKnown<Value, Result>(
  value: Value | PromiseLike<Value>,
  goOn: (value: Value) => Result | PromiseLike<Result>,
): Result | PromiseLike<Result> {
  return isPromise(value) ? value.then(goOn) : goOn(value);
}

export function isPromise<Value>(value: Value | PromiseLike<Value>): value is PromiseLike<Value> {
  return typeof (value as PromiseLike<Value> | null | undefined)?.then === 'function';
}
