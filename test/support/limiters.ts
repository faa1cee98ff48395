// What the tests share: the engines, each loaded explicitly, and a clock that only they move.

import type { EngineName } from 'relay-limiter';

const CHOSEN = process.env['RELAY_LIMITER_ENGINE'];

/** The tested engines: both, unless RELAY_LIMITER_ENGINE is the name of one. */
export const ENGINES: readonly EngineName[] =
  CHOSEN === 'native' || CHOSEN === 'js' ? [CHOSEN] : ['native', 'js'];

/** False only if RELAY_LIMITER_ENGINE=js. Otherwise a missing addon fails tests: `engine: 'native'` throws. */
export const TESTS_NATIVE = ENGINES.includes('native');

/** The engine that is not this one, if it is tested; otherwise this one. */
export function otherEngine(engine: EngineName): EngineName {
  return ENGINES.find((other) => other !== engine) ?? engine;
}

export interface ManualClock {
  (): number;
  /** Seconds. */
  now: number;
  /** How often it was read. */
  reads: number;
}

/** A clock that stands still until its `now` is set. It starts far from 0, as real ones do. */
export function manualClock(start = 1_000_000): ManualClock {
  const clock: ManualClock = Object.assign(
    () => {
      clock.reads += 1;
      return clock.now;
    },
    { now: start, reads: 0 },
  );
  return clock;
}

/** Keys that some table somewhere merges, loses or trips over; each is a peer of its own. */
export const ODD_KEYS: readonly string[] = [
  '',
  ' ',
  '\0',
  '\0\0',
  'a\0b',
  'a\0c',
  '1',
  '01',
  '1.0',
  '10',
  '__proto__',
  'constructor',
  'toString',
  'hasOwnProperty',
  '\ud800',
  '\ud801',
  '\udc00',
  '\ufffd',
  'x\ud800',
  'x\ufffd',
  '\u00e9',
  'e\u0301',
  'É',
  '\ud83d\ude00',
  // A byte a unit and two, in what the native engine keeps of an offender, and of all its sizes.
  ...[16, 17, 128, 129, 300].flatMap((length) => [
    'é'.repeat(length),
    `${'é'.repeat(length - 1)}ā`,
  ]),
  // Around the native engine's buffer, and far beyond it.
  ...[126, 127, 128, 129, 130, 1000, 65_536].flatMap((length) => [
    'k'.repeat(length),
    `${'k'.repeat(length - 1)}l`,
  ]),
];

/** The code of the error that `act` throws, or what it returned instead. */
export function codeOf(act: () => unknown): unknown {
  try {
    return { returned: act() };
  } catch (error) {
    return (error as { code?: unknown }).code;
  }
}
