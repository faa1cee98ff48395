// A flood of keys that come once, an hour of it by a virtual clock, on all three limiters at once. What
// the process holds after a minute it must hold at the end, and who was banned before must be so still.

import {
  DirectConnectionRateLimiter,
  type EngineName,
  OrderbookRateLimiter,
  RateLimiter,
} from 'relay-limiter';
import { grew, type Memory, memory, showMemory } from './memory.js';
import { Difference } from './model/model.js';

const KEYS_A_SECOND = 2000;
/** So few that offenders alone, who go last, fill each table within a minute. */
const MAX_PEERS = 5000;
const WARM_UP_SECONDS = 60;
/** Simulated seconds between two looks around. */
const SLICE_SECONDS = 5;
/** One key in so many has 64 KiB; one in so many breaks its limit, and is an offender. */
const LONG = 4001;
const OFFENDS = 5;

export interface FloodResult {
  readonly keys: number;
  /** After a minute, and at the end. */
  readonly afterMinute: Memory;
  readonly atEnd: Memory;
}

export class Flood {
  readonly engine: EngineName;
  keys = 0;
  readonly #seconds: number;
  #now = 1000;
  readonly #rate: RateLimiter;
  readonly #orderbook: OrderbookRateLimiter;
  readonly #direct: DirectConnectionRateLimiter;
  #afterMinute: Memory | undefined;

  constructor(engine: EngineName, seconds: number) {
    this.engine = engine;
    this.#seconds = seconds;
    const options = { engine, clock: () => this.#now, maxPeers: MAX_PEERS };
    const bans = { ...options, banDuration: 30 * 86_400 };
    this.#rate = new RateLimiter({ ...options, rateLimit: 1, burstLimit: 1 });
    this.#orderbook = new OrderbookRateLimiter({ ...bans, violationBanThreshold: 3 });
    this.#direct = new DirectConnectionRateLimiter({ ...bans, orderbookBanThreshold: 3 });
    for (let n = 0; n < 6; n += 1) {
      this.#orderbook.check('attacker');
      this.#direct.checkOrderbook('attacker');
    }
  }

  /** Some seconds of it; true while there is more. @throws Difference */
  slice(): boolean {
    const end = this.keys + KEYS_A_SECOND * SLICE_SECONDS;
    while (this.keys < end) this.#newcomer();
    if (!this.#orderbook.isBanned('attacker') || !this.#direct.isBanned('attacker')) {
      throw new Difference(`a ban was lost after ${this.keys} keys of a flood`);
    }
    if (this.#simulated === WARM_UP_SECONDS) this.#afterMinute = memory();
    return this.#simulated < this.#seconds;
  }

  /** @throws Difference if memory grew, or a table is larger than it may be. */
  end(): FloodResult {
    const atEnd = memory();
    const peers = [
      this.#rate.getStats(),
      this.#orderbook.getStatistics(),
      this.#direct.getStatistics(),
    ];
    if (peers.some((statistics) => statistics.peers > MAX_PEERS))
      throw new Difference('too many peers');
    const afterMinute = this.#afterMinute ?? atEnd;
    if (grew(afterMinute, atEnd)) {
      throw new Difference(`in a flood ${showMemory(afterMinute)} became ${showMemory(atEnd)}`);
    }
    return { keys: this.keys, afterMinute, atEnd };
  }

  get #simulated(): number {
    return this.keys / KEYS_A_SECOND;
  }

  #newcomer(): void {
    const key = this.keys % LONG === 0 ? `${this.keys}`.padEnd(65_536, 'x') : `flood-${this.keys}`;
    const times = this.keys % OFFENDS === 0 ? 2 : 1;
    for (let n = 0; n < times; n += 1) {
      if (this.keys % 3 === 0) this.#rate.check(key);
      else if (this.keys % 3 === 1) this.#orderbook.check(key);
      else if (this.keys % 2 === 0) this.#direct.checkMessage(key);
      else this.#direct.checkOrderbook(key);
    }
    this.keys += 1;
    this.#now += 1 / KEYS_A_SECOND;
  }
}
