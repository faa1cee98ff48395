// What all processes of a shared limit, or of shared bans, have done. The store is asked at most once in REFRESH_SECONDS for
// each limit, only while a page is open, and however many are.

import { ifKnown } from '../limiters/stats.js';
import { DutyCycle } from './duty-cycle.js';
import { sentKey } from './keys.js';
import { encodeSeconds, type ListedFleet, type ListedSharedBans } from './messages.js';
import type {
  FleetFigures,
  Fleets,
  RuleFleetFigures,
  WatchedFleet,
  WatchedSharedBans,
} from './watched-fleets.js';

/** Processes report as often. */
const REFRESH_SECONDS = 5;
/** The maximum number of bans that are sent of each list of bans. */
const MAX_BANS = 10;

/** What a listing has of fleets. */
export interface FleetListing {
  readonly fleets: readonly ListedFleet[];
  readonly sharedBans: readonly ListedSharedBans[];
}

type Figures = FleetFigures | RuleFleetFigures;

/** A reading of one limit. */
interface Reading {
  readonly at: number;
  readonly figures: Figures;
}

export class FleetFeed {
  readonly #fleets: Fleets;
  readonly #listed: ListedFleet[];
  /** Lists all bans to find the longest. */
  readonly #cycle = new DutyCycle();
  #bans: readonly ListedSharedBans[] = [];
  readonly #readings: (Reading | undefined)[] = [];
  readonly #isAsking: boolean[] = [];
  #notBefore = Number.NEGATIVE_INFINITY;

  constructor(fleets: Fleets) {
    this.#fleets = fleets;
    this.#listed = fleets.limits.map(([name]) => unknownFleet(name));
  }

  /** What is known. If that is old, it asks the stores, and a later listing has the replies. */
  listing(): FleetListing {
    const now = performance.now();
    if (now >= this.#notBefore) {
      this.#notBefore = now + REFRESH_SECONDS * 1000;
      this.#fleets.limits.forEach(([name, limit], place) => {
        void this.#ask(name, limit, place);
      });
      const list = () => this.#fleets.bans.flatMap(([name, bans]) => listedBans(name, bans));
      this.#bans = this.#cycle.run(list) ?? this.#bans;
    }
    return { fleets: [...this.#listed], sharedBans: this.#bans };
  }

  async #ask(name: string, fleet: WatchedFleet, place: number): Promise<void> {
    // A store that does not answer is not asked again meanwhile.
    if (this.#isAsking[place]) return;
    this.#isAsking[place] = true;
    try {
      const figures = await fleet.getFleetStats();
      const reading = { at: performance.now(), figures };
      this.#listed[place] = listedFleet(name, reading, this.#readings[place]);
      this.#readings[place] = reading;
    } catch {
      const known = this.#listed[place] ?? unknownFleet(name);
      this.#listed[place] = { ...known, perSecond: null, isLost: true };
      this.#readings[place] = undefined;
    } finally {
      this.#isAsking[place] = false;
    }
  }
}

function unknownFleet(name: string): ListedFleet {
  return { name, isLost: false, nodes: null, verdicts: null, perSecond: null, offenders: [] };
}

/** `before`: the reading before this one, for the rates. */
function listedFleet(name: string, { at, figures }: Reading, before?: Reading): ListedFleet {
  const [allow, delay, disconnect] = totalsOf(figures);
  const past = totalsOf(before?.figures ?? figures);
  const seconds = before === undefined ? 0 : (at - before.at) / 1000;
  const grown = [allow - past[0], delay + disconnect - past[1] - past[2]] as const;
  // Totals begin with 0 again if the store has lost its data.
  const isRate = seconds > 0 && grown.every((count) => count >= 0);
  return {
    name,
    isLost: false,
    nodes: figures.nodes,
    verdicts: [allow, delay, disconnect],
    perSecond: isRate ? [rate(grown[0], seconds), rate(grown[1], seconds)] : null,
    offenders: figures.offenders.map(({ key, ...offender }) => ({ ...offender, ...sentKey(key) })),
  };
}

function totalsOf(figures: Figures): [allowed: number, delayed: number, disconnected: number] {
  if ('verdicts' in figures) {
    const { allow, delay, disconnect } = figures.verdicts;
    return [allow, delay, disconnect];
  }
  const { allow, delay, banned, denied } = figures.outcomes;
  return [allow, delay, banned + denied];
}

function rate(count: number, seconds: number): number {
  return Math.round((count / seconds) * 10) / 10;
}

/** Empty if they cannot be read. */
function listedBans(name: string, shared: WatchedSharedBans): ListedSharedBans[] {
  const inForce = ifKnown(() => shared.getBans(MAX_BANS));
  if (inForce === null) return [];
  const bans = inForce.bans.map(([key, seconds]) => {
    return { ...sentKey(key), secondsLeft: encodeSeconds(seconds) };
  });
  return [{ name, banned: inForce.count, bans }];
}
