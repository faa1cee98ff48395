/**
 * Options of tests in real time: a shared machine that stands still in the middle of one fails it. A fault fails
 * twice. Not for tests that draw their input anew, of which a second try would hide what the first has found.
 */
export const REAL_TIME = { retry: 1 } as const;
