// Near the end of the stack any call may throw a RangeError. A change of several steps begins with reserveStack(), so
// that the error is thrown before anything has changed. This does not help if V8 must compile a function that has not
// run yet: that takes 40 KiB of stack.

/** Nested calls that use at least the stack of any check: about 1.5 KiB if V8 has optimized them. */
const CHECK = 24;
/** The same for a group: each of its checks may call reserveStack() itself. */
const GROUP = 2 * CHECK;

/** The same for a check of several scopes. */
const RULES = 4 * CHECK;

/** @throws RangeError if the stack may be too small to complete a check. */
export function reserveStack(): void {
  descend(CHECK);
}

/** The same for a function that makes several checks. */
export function reserveGroupStack(): void {
  descend(GROUP);
}

/** The same for a check of a rule limiter. */
export function reserveRulesStack(): void {
  descend(RULES);
}

// Recursive, because V8 never inlines a function into itself.
function descend(calls: number): void {
  if (calls > 0) descend(calls - 1);
}
