// What is known of a peer: its bans, the last lift, its violations. Times are of the fleet's clock (fleet-clock.ts).
//
// States merge in any order, and merging one again changes nothing: a ban ends by its time, or by a lift that was made
// after it, and by nothing else. So it does not matter which process tells what first, late or twice.

/** A ban. */
export interface Term {
  /** When the ban was made. */
  readonly made: number;
  /** When it ends by its time. */
  readonly ends: number;
}

export interface BanState<T extends Term = Term> {
  /** When the last lift was made; 0 if there was none. It ended all bans made until then. */
  readonly lifted: number;
  /** The bans that no lift has ended, the newest first, each ending later than the ones before it. */
  readonly terms: readonly T[];
  /** The violations since the last lift, counted by all processes. */
  readonly violations: number;
}

export const NOTHING: BanState<never> = { lifted: 0, terms: [], violations: 0 };

/** The least difference of two times of one peer that the fleet's clock tells apart. */
export const TICK_SECONDS = 1e-6;
/** Bans of one peer that are kept. Beyond it the shortest but one lasts as long as the longest. */
export const MAX_TERMS = 8;

/**
 * The bans that count, of any: a ban that was made before another and ends before it makes no difference, whatever is
 * lifted.
 */
export function essentialTerms<T extends Term>(all: readonly T[]): readonly T[] {
  if (all.length <= 1) return all;
  const newestFirst = [...all].sort((a, b) => b.made - a.made || b.ends - a.ends);
  const terms: T[] = [];
  for (const term of newestFirst) {
    if (term.ends > (terms.at(-1)?.ends ?? Number.NEGATIVE_INFINITY)) terms.push(term);
  }
  const longest = terms.at(-1);
  if (terms.length <= MAX_TERMS || longest === undefined) return terms;
  const last = terms[MAX_TERMS - 1] as T;
  return [...terms.slice(0, MAX_TERMS - 1), { ...longest, made: last.made }];
}

/** Whether one state has a lift or a ban that the other lacks. Violations alone make no difference. */
export function hasNews(state: BanState, known: BanState): boolean {
  if (state.lifted > known.lifted) return true;
  return state.terms.some(({ made, ends }) => {
    if (made <= known.lifted) return false;
    return !known.terms.some((other) => other.made >= made && other.ends >= ends);
  });
}

/** The text of a state, as stored: the lift, the violations, and the bans. */
export function formatState({ lifted, terms, violations }: BanState): string {
  return [lifted, violations, ...terms.map(({ made, ends }) => `${made}:${ends}`)].join(' ');
}

/** Parses the text of a state; undefined if it is invalid. Anybody can publish anything. */
export function parseState(text: unknown): BanState | undefined {
  if (typeof text !== 'string') return undefined;
  const [liftedText = '', violationsText = '', ...rest] = text.split(' ');
  const [lifted, violations] = [readTime(liftedText), readTime(violationsText)];
  const isCount = Number.isSafeInteger(violations) && violations >= 0;
  if (!Number.isFinite(lifted) || !isCount || rest.length > MAX_TERMS) return undefined;
  const terms = rest.map(parseTerm);
  if (terms.includes(undefined)) return undefined;
  return { lifted, violations, terms: essentialTerms(terms as Term[]) };
}

function parseTerm(text: string): Term | undefined {
  const [made = Number.NaN, ends = Number.NaN, more] = text.split(':').map(readTime);
  const isTerm = Number.isFinite(made) && Number.isFinite(ends) && more === undefined;
  return isTerm ? { made, ends } : undefined;
}

function readTime(text: string): number {
  return text === '' ? Number.NaN : Number(text);
}
