// What the page shows, read from the limiters: samples of their totals, kept for some minutes, and lists
// of who broke limits. Knows no connections.

import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import {
  ifKnown,
  type LimiterStats,
  type ObservableLimiter,
  statsOf,
  type Verdicts,
} from '../limiters/stats.js';
import { BanEvents } from './ban-events.js';
import { sentKey } from './keys.js';
import type { LimiterSample, Listed, ListedBan, Listing, Sample } from './messages.js';

/** Samples that are kept: five minutes of one a second. */
export const MOST_SAMPLES = 300;
/** Bans that are named. */
const MOST_BANS = 100;
/** Milliseconds between two looks at the event loop. */
const LOOP_RESOLUTION = 20;
const NO_LISTING: Listing = { at: 0, banned: 0, bans: [], violators: [], began: [] };

type Named = readonly [name: string, limiter: ObservableLimiter];

export class Feed {
  readonly samples: Sample[] = [];
  readonly #limiters: readonly Named[];
  readonly #loop: IntervalHistogram = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION });
  readonly #sampling = new Share();
  readonly #listing = new Share();
  readonly #banEvents: BanEvents;
  #before: (Verdicts | null)[];
  #sampledAt = performance.now();
  #latest: Listing = NO_LISTING;
  /** The keys that the latest list has cut, by their hashes. */
  readonly #cut = new Map<string, string>();

  constructor(limiters: readonly Named[]) {
    this.#limiters = limiters;
    this.#before = this.#figures().map((figures) => figures?.verdicts ?? null);
    this.#banEvents = new BanEvents(limiters.map(([, limiter]) => limiter));
    this.#loop.enable();
  }

  /** The next sample; undefined where reading has become so dear that it is not time yet. */
  sample(): Sample | undefined {
    const figures = this.#sampling.take(() => this.#figures());
    if (figures === undefined) return undefined;
    const now = performance.now();
    const seconds = (now - this.#sampledAt) / 1000;
    this.#sampledAt = now;
    const limiters = figures.map((each, i) =>
      each === null ? null : limiterSample(each, this.#before[i] ?? each.verdicts, seconds),
    );
    this.#before = figures.map((each) => each?.verdicts ?? null);
    const sample = {
      at: Date.now(),
      seconds: round(seconds),
      loopDelay: this.#loopDelay(),
      limiters,
    };
    this.samples.push(sample);
    if (this.samples.length > MOST_SAMPLES) this.samples.shift();
    return sample;
  }

  /** Who broke limits. The latest list where it is too dear to make one yet, unless it `must` be new. */
  listing(must = false): Listing {
    this.#latest = this.#listing.take(() => this.#list(), must) ?? this.#latest;
    return { ...this.#latest, began: this.#banEvents.latest };
  }

  /** The whole of a key that the latest list has cut. */
  wholeKey(hash: string): string | undefined {
    return this.#cut.get(hash);
  }

  close(): void {
    this.#banEvents.close();
    this.#loop.disable();
  }

  #figures(): (LimiterStats | null)[] {
    return this.#limiters.map(([, limiter]) => ifKnown(() => statsOf(limiter)));
  }

  #list(): Listing {
    const bans: ListedBan[] = [];
    const violators: Listed[] = [];
    let banned = 0;
    this.#cut.clear();
    this.#limiters.forEach(([, limiter], place) => {
      for (const [key, violations] of ifKnown(() => limiter.getOverview())?.topViolators ?? []) {
        violators.push(this.#listed(place, key, violations));
      }
      const inForce = ifKnown(() => limiter.getBans?.(MOST_BANS));
      banned += inForce?.count ?? 0;
      for (const [key, secondsLeft] of inForce?.bans ?? []) {
        bans.push({ ...this.#listed(place, key, limiter.getViolationCount(key)), secondsLeft });
      }
    });
    bans.sort((a, b) => b.secondsLeft - a.secondsLeft);
    violators.sort((a, b) => b.violations - a.violations);
    return { ...NO_LISTING, at: Date.now(), banned, bans: bans.slice(0, MOST_BANS), violators };
  }

  #listed(limiter: number, key: string, violations: number): Listed {
    const sent = sentKey(key);
    if (sent.hash !== undefined) this.#cut.set(sent.hash, key);
    return { limiter, ...sent, violations };
  }

  #loopDelay(): number {
    // Its figures hold the pause between two looks.
    const { max } = this.#loop;
    this.#loop.reset();
    return Math.max(0, round(max / 1e6 - LOOP_RESOLUTION));
  }
}

/** Of dear work: so seldom that it takes a fiftieth of the time at the most. */
class Share {
  #notBefore = 0;

  take<T>(work: () => T, must = false): T | undefined {
    const started = performance.now();
    if (started < this.#notBefore && !must) return undefined;
    const result = work();
    const ended = performance.now();
    this.#notBefore = ended + 49 * (ended - started);
    return result;
  }
}

function limiterSample(figures: LimiterStats, before: Verdicts, seconds: number): LimiterSample {
  const { verdicts, trackedPeers, banned, memoryBytes } = figures;
  const rate = (verdict: keyof Verdicts) => round((verdicts[verdict] - before[verdict]) / seconds);
  const rates = [rate('allow'), rate('delay'), rate('disconnect')] as const;
  return [...rates, trackedPeers, banned, memoryBytes ?? null];
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
