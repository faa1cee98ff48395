// Where a caller is near the end of the stack, any call may throw a RangeError. A change of several steps
// begins with reserveStack(), so that it is thrown while nothing has changed. It is no help where V8 must
// compile a function that has not run yet: for that it wants 40 KiB of stack.

/** Calls deep enough for any change: of those that V8 has optimized, some 1.5 KiB. */
const CHECK = 24;
/** The same for changes that begin with a check's own. */
const GROUP = 2 * CHECK;

/** @throws RangeError where a check could not be completed. */
export function reserveStack(): void {
  descend(CHECK);
}

/** The same for what makes several checks. */
export function reserveGroupStack(): void {
  descend(GROUP);
}

// V8 inlines no function in itself.
function descend(calls: number): void {
  if (calls > 0) descend(calls - 1);
}
