// Checks the messages of all senders by a real RuleLimiter under a simulated clock. The result is exact and depends on the
// scenario only: every level in it was read from the limiter at that instant.

import { type RuleBan, RuleLimiter, type RulePeer, type RuleVerdict } from 'relay-limiter';
import { checkSenders, InvalidScenario, type Scenario, type Sender } from './scenario.js';

/** The length of a simulation in seconds. */
export const SECONDS = 60;
/** Levels are read at least so often, in seconds. */
const STEP = 0.1;
/** A bound for the work of one simulation. */
const MAX_MESSAGES = 20_000;

export type Outcome = RuleVerdict['outcome'];

/** One message, as it was checked. A message that its sender repeats counts each time. */
export interface Attempt {
  readonly time: number;
  readonly outcome: Outcome;
  readonly rule: string | null;
  readonly scope: string | null;
  /** Infinity: never. */
  readonly delaySeconds: number;
}

/** The tokens of one rule over time, of the sender's first peer. */
export interface Level {
  readonly rule: string;
  readonly scope: string;
  readonly unit: string;
  /** The burst. */
  readonly limit: number;
  /** In the order of time; two at one instant: before and after a message. */
  readonly times: number[];
  readonly tokens: number[];
}

export interface Span {
  readonly from: number;
  readonly until: number;
}

/** What happened to one sender. */
export interface Lane {
  readonly sender: Sender;
  readonly attempts: readonly Attempt[];
  readonly counts: Readonly<Record<Outcome, number>>;
  readonly levels: readonly Level[];
  /** When at least one of its peers was banned, as far as its messages showed. */
  readonly bans: readonly Span[];
}

export interface Timeline {
  readonly seconds: number;
  readonly lanes: readonly Lane[];
  /** In the order in which they began. */
  readonly bans: readonly (RuleBan & { readonly time: number })[];
}

/**
 * Simulates `SECONDS` seconds.
 *
 * @throws InvalidScenario, and the errors of RuleLimiter
 */
export function simulate({ options, senders }: Scenario): Timeline {
  checkSenders(senders);
  let now = 0;
  const bans: (RuleBan & { time: number })[] = [];
  const limiter = new RuleLimiter({
    ...options,
    engine: 'js',
    clock: () => now,
    // Bans with jitter get their middle length.
    random: () => 0.5,
    cleanup: undefined,
    onBan: (ban) => bans.push({ ...ban, time: now }),
  } as ConstructorParameters<typeof RuleLimiter>[0]);
  try {
    const actors = senders.map((sender) => new Actor(limiter, sender));
    let messages = 0;
    for (let step = 0; step <= SECONDS / STEP; step += 1) {
      const end = step * STEP;
      for (;;) {
        const next = earliest(actors);
        if (next === undefined || next.nextTime > end || next.nextTime >= SECONDS) break;
        if (++messages > MAX_MESSAGES) throw tooMany();
        now = Math.max(now, next.nextTime);
        next.send(now);
      }
      now = Math.max(now, end);
      for (const actor of actors) actor.readLevels(now);
    }
    return { seconds: SECONDS, lanes: actors.map((actor) => actor.lane()), bans };
  } finally {
    limiter.close();
  }
}

function tooMany(): InvalidScenario {
  return new InvalidScenario(`the senders must send at most ${MAX_MESSAGES} messages in total`);
}

/** Returns the sender whose message is next; of several at one instant the first. */
function earliest(actors: readonly Actor[]): Actor | undefined {
  let first = actors[0];
  for (const actor of actors) {
    if (first === undefined || actor.nextTime < first.nextTime) first = actor;
  }
  return first;
}

/** Sends the messages of one sender and records what became of them. */
class Actor {
  readonly #sender: Sender;
  readonly #peers: readonly RulePeer[];
  readonly #attempts: Attempt[] = [];
  readonly #counts: Record<Outcome, number> = { allow: 0, delay: 0, banned: 0, denied: 0 };
  readonly #levels: Level[];
  readonly #bans: { from: number; until: number }[] = [];
  readonly #until: number;
  /** Messages that were sent and not repeated. */
  #done = 0;
  #blockedUntil = 0;
  nextTime: number;

  constructor(limiter: RuleLimiter, sender: Sender) {
    this.#sender = sender;
    this.#until = Math.min(sender.until ?? SECONDS, SECONDS);
    this.#peers = Array.from({ length: Math.floor(sender.peers ?? 1) }, (_, index) =>
      limiter.open(keysOf(sender, index + 1), sender.plan),
    );
    const [first] = this.#peers;
    const rules = first?.peek(sender.cost, sender.action).rules ?? [];
    this.#levels = rules.map(({ rule, scope, unit, limit }) => {
      return { rule, scope, unit, limit, times: [], tokens: [] };
    });
    this.nextTime = this.#due();
  }

  send(now: number): void {
    const { cost, action, waits } = this.#sender;
    const index = this.#done % this.#peers.length;
    if (index === 0) this.readLevels(now);
    const verdict = (this.#peers[index] as RulePeer).check(cost, action);
    if (index === 0) this.readLevels(now);
    const { outcome, rule, scope, delaySeconds } = verdict;
    this.#attempts.push({ time: now, outcome, rule, scope, delaySeconds });
    this.#counts[outcome] += 1;
    if (outcome === 'banned') this.#addBan(now, now + delaySeconds);
    if (waits && outcome !== 'allow') {
      // Rounded up to milliseconds, as timers are: the exact delay may fall short by a rounding error.
      this.#blockedUntil = now + Math.ceil(delaySeconds * 1000 + 1e-6) / 1000;
    } else {
      this.#done += 1;
    }
    this.nextTime = Math.max(this.#due(), this.#blockedUntil);
  }

  readLevels(now: number): void {
    const { cost, action } = this.#sender;
    const rules = this.#peers[0]?.peek(cost, action).rules ?? [];
    for (const [index, { remaining }] of rules.entries()) {
      const level = this.#levels[index];
      if (level === undefined) continue;
      level.times.push(now);
      level.tokens.push(remaining);
    }
  }

  lane(): Lane {
    return {
      sender: this.#sender,
      attempts: this.#attempts,
      counts: this.#counts,
      levels: this.#levels,
      bans: this.#bans,
    };
  }

  /** When the next message is due; Infinity if there is none. */
  #due(): number {
    const { from = 0, perSecond, atOnce = 1 } = this.#sender;
    const together = Math.floor(atOnce);
    const time = from + (Math.floor(this.#done / together) * together) / perSecond;
    return time < this.#until ? time : Number.POSITIVE_INFINITY;
  }

  #addBan(from: number, until: number): void {
    const last = this.#bans.at(-1);
    if (last !== undefined && from < last.until) last.until = Math.max(last.until, until);
    else this.#bans.push({ from, until });
  }
}

function keysOf({ keys }: Sender, peer: number) {
  const entries = Object.entries(keys).map(([scope, key]) => {
    return [scope, typeof key === 'string' ? key.replaceAll('{n}', String(peer)) : key] as const;
  });
  return Object.fromEntries(entries);
}

/** Returns the tokens at `time`, on a straight line between two recorded instants, which are at most `STEP` apart. */
export function tokensAt({ times, tokens }: Level, time: number): number {
  let low = 0;
  let high = times.length;
  // The number of records at or before `time`.
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((times[middle] as number) <= time) low = middle + 1;
    else high = middle;
  }
  const [before, after] = [times[low - 1], times[low]];
  const [from, to] = [tokens[low - 1], tokens[low]];
  if (before === undefined || from === undefined) return tokens[0] ?? Number.NaN;
  if (after === undefined || to === undefined) return from;
  return from + ((to - from) * (time - before)) / (after - before);
}

/** Returns the last attempt at or before `time`. */
export function attemptAt({ attempts }: Lane, time: number): Attempt | undefined {
  let low = 0;
  let high = attempts.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((attempts[middle] as Attempt).time <= time) low = middle + 1;
    else high = middle;
  }
  return attempts[low - 1];
}
