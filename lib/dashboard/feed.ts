// Collects the data that the page shows: samples of the limiters' totals, kept for some minutes, and listings of
// offenders and bans. Expensive reads run less often, so that they take at most 2 % of the time.

import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import type { ObservableGuard } from '../guard/guard-stats.js';
import { ifKnown, type Verdicts } from '../limiters/stats.js';
import { BanEvents } from './ban-events.js';
import { DutyCycle } from './duty-cycle.js';
import { FleetFeed } from './fleet.js';
import { sentKey } from './keys.js';
import { listedGuards } from './listed-guards.js';
import { listedRules } from './listed-rules.js';
import {
  encodeSeconds,
  type LimiterSample,
  type Listed,
  type ListedBan,
  type ListedGuard,
  type ListedRule,
  type Listing,
  NO_LISTING,
  type Sample,
} from './messages.js';
import { type Reading, readAll, type Shown, type Totals } from './shown.js';
import type { Fleets } from './watched-fleets.js';

/** The number of samples that are kept: five minutes at one sample per second. */
export const MAX_SAMPLES = 300;
/** The maximum number of bans in a listing. */
const MAX_BANS = 100;
/** Milliseconds between two measurements of the event loop's delay. */
const LOOP_RESOLUTION_MS = 20;
type Guards = readonly (readonly [name: string, guard: ObservableGuard])[];

export class Feed {
  readonly samples: Sample[] = [];
  readonly #shown: readonly Shown[];
  readonly #guards: Guards;
  readonly #loop: IntervalHistogram = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS });
  readonly #sampling = new DutyCycle();
  readonly #listing = new DutyCycle();
  readonly #banEvents: BanEvents;
  readonly #fleet: FleetFeed;
  #previous: readonly Reading[];
  #rules: readonly ListedRule[];
  #listedGuards: readonly ListedGuard[];
  #sampledAt = performance.now();
  #latest: Listing = NO_LISTING;
  /** The whole keys that the latest listing has truncated, by hash. */
  readonly #truncated = new Map<string, string>();

  constructor(
    shown: readonly Shown[],
    guards: Guards = [],
    fleets: Fleets = { limits: [], bans: [] },
  ) {
    this.#shown = shown;
    this.#guards = guards;
    this.#previous = readAll(shown);
    this.#rules = listedRules(shown, this.#previous, [], 1);
    this.#listedGuards = listedGuards(guards);
    this.#banEvents = new BanEvents(shown);
    this.#fleet = new FleetFeed(fleets);
    this.#loop.enable();
  }

  /** Takes a sample; undefined if the last one took so long that the next one is not due yet. */
  sample(): Sample | undefined {
    const readings = this.#sampling.run(() => readAll(this.#shown));
    if (readings === undefined) return undefined;
    const now = performance.now();
    const seconds = (now - this.#sampledAt) / 1000;
    this.#sampledAt = now;
    const limiters = readings.map((reading, i) => {
      if (reading === null) return null;
      const { totals } = reading;
      return limiterSample(totals, this.#previous[i]?.totals.verdicts ?? totals.verdicts, seconds);
    });
    this.#rules = listedRules(this.#shown, readings, this.#previous, seconds);
    this.#listedGuards = listedGuards(this.#guards);
    this.#previous = readings;
    const sample = {
      at: Date.now(),
      seconds: round(seconds),
      loopDelay: this.#loopDelay(),
      limiters,
    };
    this.samples.push(sample);
    if (this.samples.length > MAX_SAMPLES) this.samples.shift();
    return sample;
  }

  /**
   * Lists offenders and bans. Returns the previous listing if a new one is not due yet, unless `force` is true.
   */
  listing(force = false): Listing {
    this.#latest = this.#listing.run(() => this.#list(), force) ?? this.#latest;
    const [rules, guards] = [this.#rules, this.#listedGuards];
    return {
      ...this.#latest,
      ...this.#fleet.listing(),
      began: this.#banEvents.latest,
      rules,
      guards,
    };
  }

  /** Returns the whole key that the latest listing has truncated. */
  wholeKey(hash: string): string | undefined {
    return this.#truncated.get(hash);
  }

  close(): void {
    this.#banEvents.close();
    this.#loop.disable();
  }

  #list(): Listing {
    const bans: (Listed & { secondsLeft: number })[] = [];
    const violators: Listed[] = [];
    let banned = 0;
    this.#truncated.clear();
    this.#shown.forEach((shown, index) => {
      if (!('limiter' in shown)) return;
      const { limiter } = shown;
      for (const [key, violations] of ifKnown(() => limiter.getOverview())?.topViolators ?? []) {
        violators.push(this.#listed(index, key, violations));
      }
      const inForce = ifKnown(() => limiter.getBans?.(MAX_BANS));
      banned += inForce?.count ?? 0;
      for (const [key, secondsLeft] of inForce?.bans ?? []) {
        const violations = ifKnown(() => limiter.getViolationCount(key)) ?? 0;
        bans.push({ ...this.#listed(index, key, violations), secondsLeft });
      }
    });
    bans.sort((a, b) => (a.secondsLeft === b.secondsLeft ? 0 : b.secondsLeft - a.secondsLeft));
    violators.sort((a, b) => b.violations - a.violations);
    const longest = bans
      .slice(0, MAX_BANS)
      .map((ban): ListedBan => ({ ...ban, secondsLeft: encodeSeconds(ban.secondsLeft) }));
    return { ...NO_LISTING, at: Date.now(), banned, bans: longest, violators };
  }

  #listed(limiter: number, key: string, violations: number): Listed {
    const sent = sentKey(key);
    if (sent.hash !== undefined) this.#truncated.set(sent.hash, key);
    return { limiter, ...sent, violations };
  }

  #loopDelay(): number {
    // The measured delay includes the pause between two measurements.
    const { max } = this.#loop;
    this.#loop.reset();
    return Math.max(0, round(max / 1e6 - LOOP_RESOLUTION_MS));
  }
}

function limiterSample(totals: Totals, before: Verdicts, seconds: number): LimiterSample {
  const { verdicts, tracked, banned, memoryBytes } = totals;
  const rate = (verdict: keyof Verdicts) => round((verdicts[verdict] - before[verdict]) / seconds);
  const rates = [rate('allow'), rate('delay'), rate('disconnect')] as const;
  return [...rates, tracked, banned, memoryBytes ?? null];
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
