// Floods all four limiters with new keys, for an hour of virtual time. The process's memory after one minute must
// suffice until the end, and a ban from before the flood must still be in force.

import {
  DirectConnectionRateLimiter,
  type EngineName,
  OrderbookRateLimiter,
  RateLimiter,
  RuleLimiter,
} from 'relay-limiter';
import { grew, type Memory, memory, showMemory } from './memory.js';
import { Difference } from './model/model.js';

const KEYS_PER_SECOND = 2000;
/** Small enough that offenders, which are evicted last, fill each table within a minute. */
const MAX_PEERS = 5000;
const WARM_UP_SECONDS = 60;
/** Simulated seconds per call of `slice`. */
const SLICE_SECONDS = 5;
/** One key in 4001 is 65,536 characters long. */
const LONG_KEY_INTERVAL = 4001;
/** One key in 5 breaks its limit and becomes an offender. */
const OFFENDER_INTERVAL = 5;

export interface FloodResult {
  readonly keys: number;
  /** After one simulated minute. */
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
  readonly #rules: RuleLimiter;
  #afterMinute: Memory | undefined;

  constructor(engine: EngineName, seconds: number) {
    this.engine = engine;
    this.#seconds = seconds;
    const options = { engine, clock: () => this.#now, maxPeers: MAX_PEERS };
    const bans = { ...options, banDuration: 30 * 86_400 };
    this.#rate = new RateLimiter({ ...options, rateLimit: 1, burstLimit: 1 });
    this.#orderbook = new OrderbookRateLimiter({ ...bans, violationBanThreshold: 3 });
    this.#direct = new DirectConnectionRateLimiter({ ...bans, orderbookBanThreshold: 3 });
    const rule = { rateLimit: 0.01, burstLimit: 1 };
    this.#rules = new RuleLimiter({
      ...options,
      scopes: { connection: {}, address: {}, server: { single: true } },
      rules: {
        messages: { scope: 'connection', ...rule },
        connects: { scope: 'address', ...rule },
        everybody: { scope: 'server', rateLimit: 1e6 },
      },
      bans: { connection: { violations: 3, withinSeconds: 60, seconds: 30 * 86_400 } },
    });
    for (let n = 0; n < 6; n += 1) {
      this.#rules.check({ connection: 'attacker' });
      this.#orderbook.check('attacker');
      this.#direct.checkOrderbook('attacker');
    }
  }

  /** Simulates the next seconds. Returns false at the end of the flood. @throws Difference if a ban is lost. */
  slice(): boolean {
    const end = this.keys + KEYS_PER_SECOND * SLICE_SECONDS;
    while (this.keys < end) this.#checkNewKey();
    const isBanned =
      this.#orderbook.isBanned('attacker') &&
      this.#direct.isBanned('attacker') &&
      this.#rules.banSecondsLeft('connection', 'attacker') > 0;
    if (!isBanned) {
      throw new Difference(`a ban was lost after ${this.keys} keys of the flood`);
    }
    if (this.#simulated === WARM_UP_SECONDS) this.#afterMinute = memory();
    return this.#simulated < this.#seconds;
  }

  /** @throws Difference if memory grew, or a table has more peers than `maxPeers`. */
  end(): FloodResult {
    const atEnd = memory();
    const peers = [
      this.#rate.getStats(),
      this.#orderbook.getStatistics(),
      this.#direct.getStatistics(),
      ...Object.values(this.#rules.getStats().scopes),
    ];
    if (peers.some((statistics) => statistics.peers > MAX_PEERS))
      throw new Difference(`a table has more than ${MAX_PEERS} peers`);
    const afterMinute = this.#afterMinute ?? atEnd;
    if (grew(afterMinute, atEnd)) {
      throw new Difference(
        `memory grew in the flood: from ${showMemory(afterMinute)} to ${showMemory(atEnd)}`,
      );
    }
    return { keys: this.keys, afterMinute, atEnd };
  }

  get #simulated(): number {
    return this.keys / KEYS_PER_SECOND;
  }

  #checkNewKey(): void {
    const isLong = this.keys % LONG_KEY_INTERVAL === 0;
    const key = isLong ? `${this.keys}`.padEnd(65_536, 'x') : `flood-${this.keys}`;
    const times = this.keys % OFFENDER_INTERVAL === 0 ? 2 : 1;
    for (let n = 0; n < times; n += 1) {
      if (this.keys % 4 === 0) this.#rate.check(key);
      else if (this.keys % 4 === 1) this.#orderbook.check(key);
      else if (this.keys % 4 === 2) this.#rules.check({ connection: key, address: key });
      else if (this.keys % 8 === 3) this.#direct.checkMessage(key);
      else this.#direct.checkOrderbook(key);
    }
    this.keys += 1;
    this.#now += 1 / KEYS_PER_SECOND;
  }
}
