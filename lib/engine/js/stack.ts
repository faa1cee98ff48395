// Near the end of the stack any call may throw a RangeError. A change of several steps begins with reserveStack(), so
// that the error is thrown before anything has changed. This does not help if V8 must compile a function that has not
// run yet: that takes 40 KiB of stack.
//
// A call checks at once that the stack has room for all registers of the called function, even if it is optimized and
// uses none of them. So one function with many registers reserves 2.5 KiB at the cost of a call. Calls nested as deep
// cost 20 times as much: a processor predicts only some of so many returns.

/** Nested calls that use about 1.5 KiB of the stack if V8 has optimized them. */
const CALLS = 24;

/** @throws RangeError if the stack may be too small to complete a check. */
export function reserveStack(): void {
  useManyRegisters();
}

/** The same for a function that makes several checks: each of them may call reserveStack() itself. */
export function reserveGroupStack(): void {
  descend(CALLS);
}

/** The same for a check of a rule limiter. */
export function reserveRulesStack(): void {
  descend(3 * CALLS);
}

// Recursive, because V8 never inlines a function into itself.
function descend(calls: number): void {
  if (calls > 0) descend(calls - 1);
  else useManyRegisters();
}

// Always empty. If it were a constant, V8 or a bundler could remove the call below.
const NOTHING: ((...zeros: number[]) => void)[] = [];

// Each argument of a call has a register. V8 inlines no function of this size.
function useManyRegisters(): void {
  if (NOTHING.length > 0) {
    // biome-ignore format: not one line for each of 304 arguments
    NOTHING[0]?.(
      0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
      0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
      0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
      0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
      0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
      0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
      0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
      0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    );
  }
}
