// SimulatedRules: does in TypeScript what the scripts of rules do, for simulations. rules/scripts.real.test.ts shows on
// a real server that both reply the same, bit for bit.

import {
  createRuleScript,
  MAX_TTL_MS,
  MEMORY_SECONDS,
  NOTICE_SECONDS,
  RULE_SCRIPTS,
  type RuleScriptName,
  SPARE_SECONDS,
  VIOLATIONS_SECONDS,
} from '../../../lib/redis/rules/rule-scripts.js';
import { LEASED_SHARE } from '../../../lib/redis/store/limit.js';

interface Lease {
  nodeId: number;
  id: number;
  amount: number;
  ends: number;
}

interface Bucket {
  used: number;
  last: number;
  slowest: number;
  leases: Lease[];
  expires: number;
}

interface Offender {
  total: number;
  level: number;
  levelAt: number;
  banLevel: number;
  began: number;
  ends: number;
  expires: number;
}

/** A bucket as a script has loaded it. */
interface Loaded extends Omit<Bucket, 'expires'> {
  leased: number;
  isStored: boolean;
  isChanged: boolean;
}

type Outage = readonly number[];

/** What scripts are told of a rule first. */
type Numbers = readonly [rate: number, burst: number, slowest: number, ...rest: number[]];

const MAX_USED = 2 ** 53;

export class SimulatedRules {
  readonly buckets = new Map<string, Bucket>();
  readonly offenders = new Map<string, Offender>();
  readonly #clock: () => number;

  constructor(clock: () => number) {
    this.#clock = clock;
  }

  snapshot(): () => void {
    const state = structuredClone([this.buckets, this.offenders] as const);
    return () => {
      this.flush();
      for (const [key, bucket] of structuredClone(state[0])) this.buckets.set(key, bucket);
      for (const [key, offender] of structuredClone(state[1])) this.offenders.set(key, offender);
    };
  }

  flush(): void {
    this.buckets.clear();
    this.offenders.clear();
  }

  /** The name of a script by its text; undefined if it is another's. */
  static nameOf(text: string): RuleScriptName | undefined {
    const names = Object.keys(RULE_SCRIPTS) as RuleScriptName[];
    return names.find((name) => text.endsWith(createRuleScript(name, '').text.slice(4)));
  }

  /** Unspent tokens that are on lease, as the store counts them. */
  leased(): number {
    return [...this.buckets.values()].reduce((total, { leases }) => total + sum(leases), 0);
  }

  run(name: RuleScriptName, keys: readonly string[], args: readonly string[]): unknown {
    const now = this.#clock();
    for (const table of [this.buckets, this.offenders]) {
      for (const key of keys) if ((table.get(key)?.expires ?? 0) <= now) table.delete(key);
    }
    return this.runUnexpired(name, keys, args, now);
  }

  /** Keys do not expire here. */
  runUnexpired(
    name: RuleScriptName,
    keys: readonly string[],
    args: readonly string[],
    now: number,
  ): unknown {
    const [latest = 0, ...outage] = (args[0] as string).split(' ').map(Number);
    if (now > latest) return ['late', String(now)];
    const rest = args.slice(1);
    if (name === 'check') return this.#check(keys, rest, outage, now);
    if (name === 'peek') return this.#peek(keys, rest, outage, now);
    if (name === 'settle') return this.#settle(keys, rest, outage, now);
    if (name === 'release') return this.#release(keys, rest, outage, now);
    return this.#punish(keys, rest, now);
  }

  #load(key: string, [rate, burst, slowest]: Numbers, outage: Outage, now: number): Loaded {
    const known = this.buckets.get(key);
    const bucket: Loaded = {
      used: known?.used ?? 0,
      last: known?.last ?? -1e300,
      leases: [],
      leased: 0,
      isStored: known !== undefined,
      slowest: Math.min(slowest, known?.slowest ?? slowest),
      isChanged: known !== undefined && slowest < known.slowest,
    };
    let [since, lost, empty, held, back] = outage as [number, number, number, number, number];
    if (since > now) {
      const early = since - now;
      [since, empty, held] = [now, empty - early, held - early];
    }
    let early = 0;
    if (bucket.last > now) {
      early = Math.max(bucket.last - now, back ?? 0);
      bucket.last -= early;
      bucket.isChanged = true;
    }
    const events: { at: number; amount: number; lost: number; raised: number }[] = [];
    for (const lease of known?.leases ?? []) {
      const ends = lease.ends - early;
      bucket.leased += lease.amount;
      if (ends > now) bucket.leases.push({ ...lease, ends });
      else {
        events.push({ at: ends, amount: lease.amount, lost: 0, raised: 0 });
        bucket.isChanged = true;
      }
    }
    let capacity = burst;
    if (outage.length > 0) {
      bucket.isChanged = true;
      if (bucket.last < since) events.push({ at: since, amount: 0, lost: lost * rate, raised: 0 });
      if (held > since) {
        capacity = 0;
        const half = burst * (1 - LEASED_SHARE);
        if (empty <= now) events.push({ at: empty, amount: 0, lost: 0, raised: half });
        if (held <= now) events.push({ at: held, amount: 0, lost: 0, raised: burst });
      }
    }
    const refillTo = (time: number) => {
      if (time > bucket.last) {
        bucket.used -= (time - bucket.last) * rate;
        bucket.last = time;
      }
      let floor = bucket.leased;
      if (capacity < burst) floor = Math.max(floor, burst - Math.max(0, capacity - floor));
      if (!(bucket.used > floor)) bucket.used = floor;
    };
    for (const event of events.sort((a, b) => a.at - b.at)) {
      if (event.at > bucket.last) refillTo(event.at);
      bucket.leased -= event.amount;
      if (event.lost > 0) {
        bucket.used = Math.max(bucket.used, Math.min(burst, bucket.used + event.lost));
      }
      capacity = Math.max(capacity, event.raised);
    }
    if (bucket.leases.length === 0) bucket.leased = 0;
    refillTo(now);
    return bucket;
  }

  #save(key: string, bucket: Loaded, lifetime: number, now: number): void {
    const { used, last, slowest, leases, isStored } = bucket;
    if (used === 0 && leases.length === 0) {
      if (isStored) this.buckets.delete(key);
      return;
    }
    const seconds = used / slowest + (leases.length > 0 ? lifetime : 0);
    this.buckets.set(key, { used, last, slowest, leases, expires: now + ttl(seconds) });
  }

  #check(keys: readonly string[], args: readonly string[], outage: Outage, now: number): string {
    const [nodeId = 0, id = 0, lifetime = 0, short = 0] = args.slice(0, 4).map(Number);
    const asked = keys.map((key, at) => {
      const given = (args[4 + at] as string).split(' ').map(Number);
      const [dry, back, known, left, cost, least, most] = given.slice(3) as [
        ...[number, number, number, number],
        ...[number, number, number],
      ];
      const numbers = given as unknown as Numbers;
      const [, burst] = numbers;
      const bucket = this.#load(key, numbers, outage, now);
      const mine = bucket.leases.find((lease) => lease.nodeId === nodeId);
      const carried = mine !== undefined && left <= mine.amount + 1e-6 ? 1 : 0;
      if (mine !== undefined && mine.id === known) {
        if (back === 1) {
          bucket.leased -= mine.amount;
          bucket.used = Math.max(bucket.leased, bucket.used - Math.min(left, mine.amount));
          bucket.leases = bucket.leases.filter((lease) => lease !== mine);
          if (bucket.leases.length === 0) bucket.leased = 0;
          bucket.isChanged = true;
        } else report(bucket, mine, left);
      }
      const fits = bucket.used + cost + least <= burst;
      return { key, burst, isDry: dry === 1, cost, least, most, bucket, carried, fits };
    });
    const isAllowed = asked.every(({ fits, isDry }) => fits || isDry);
    const words: (string | number)[] = [isAllowed ? 'a' : 'r'];
    for (const { key, burst, isDry, cost, least, most, bucket, carried, fits } of asked) {
      const before = bucket.used;
      let granted = 0;
      let seconds = lifetime;
      if (fits && (isAllowed || isDry)) {
        if (cost > 0) {
          bucket.used = Math.min(bucket.used + cost, MAX_USED);
          bucket.isChanged = true;
        }
        granted = least;
        const held = id > 0 ? cost : 0;
        const room = burst * LEASED_SHARE - bucket.leased - held - granted;
        const more = Math.min(most, room / 2, burst - bucket.used - granted);
        if (more >= 1) granted += Math.floor(more);
        if (held + granted > 0) {
          const isLong = granted > 0 && bucket.leased + held + granted <= burst * LEASED_SHARE;
          if (!isLong) seconds = short;
          const mine = bucket.leases.find((lease) => lease.nodeId === nodeId);
          const lease = { nodeId, id, amount: held + granted, ends: now + seconds };
          if (mine === undefined) bucket.leases.push(lease);
          else {
            lease.amount += mine.amount;
            lease.ends = Math.max(mine.ends, lease.ends);
            Object.assign(mine, lease);
          }
          bucket.used += granted;
          bucket.isChanged = true;
        }
      }
      if (bucket.isChanged) this.#save(key, bucket, lifetime, now);
      words.push(before, granted, carried, seconds);
    }
    return words.join(' ');
  }

  #peek(keys: readonly string[], args: readonly string[], outage: Outage, now: number): string {
    const words = keys.flatMap((key, at) => {
      const numbers = (args[1 + at] as string).split(' ').map(Number) as unknown as Numbers;
      const { used, leases } = this.#load(key, numbers, outage, now);
      const mine = leases.find((lease) => lease.nodeId === Number(args[0]));
      return [used, mine?.id ?? 0, mine?.amount ?? 0];
    });
    return words.join(' ');
  }

  #settle(keys: readonly string[], args: readonly string[], outage: Outage, now: number): number {
    keys.forEach((key, at) => {
      const numbers = (args[2 + at] as string).split(' ').map(Number) as unknown as Numbers;
      const [known, left, cost] = numbers.slice(3) as [number, number, number];
      const bucket = this.#load(key, numbers, outage, now);
      const mine = bucket.leases.find((lease) => lease.nodeId === Number(args[0]));
      if (mine !== undefined && mine.id === known) report(bucket, mine, left);
      bucket.used = Math.min(Math.max(bucket.leased, bucket.used + cost), MAX_USED);
      this.#save(key, bucket, Number(args[1]), now);
    });
    return keys.length;
  }

  #release(keys: readonly string[], args: readonly string[], outage: Outage, now: number): number {
    keys.forEach((key, at) => {
      const numbers = (args[2 + at] as string).split(' ').map(Number) as unknown as Numbers;
      const [known, left] = numbers.slice(3) as [number, number];
      const bucket = this.#load(key, numbers, outage, now);
      const mine = bucket.leases.find((lease) => lease.nodeId === Number(args[0]));
      if (mine === undefined || mine.id !== known) return;
      bucket.leased -= mine.amount;
      bucket.leases = bucket.leases.filter((lease) => lease !== mine);
      if (bucket.leases.length === 0) bucket.leased = 0;
      bucket.used = Math.max(bucket.leased, bucket.used - Math.min(left, mine.amount));
      this.#save(key, bucket, Number(args[1]), now);
    });
    return keys.length;
  }

  #punish(keys: readonly string[], args: readonly string[], now: number): string {
    const words: number[] = [];
    keys.forEach((key, at) => {
      const given = (args[at] as string).split(' ').map(Number);
      const [count, violations, within, jitter, random, forget, ...steps] = given as [
        ...[number, number, number],
        ...[number, number, number],
        ...number[],
      ];
      const never = -1e300;
      const fresh = { total: 0, level: 0, levelAt: now, banLevel: 0, began: never, ends: never };
      const offender = { ...fresh, ...this.offenders.get(key) };
      const early = Math.max(0, Math.max(offender.levelAt, offender.began) - now);
      offender.levelAt -= early;
      offender.began -= early;
      offender.ends -= early;
      let length = 0;
      if (!(now < offender.ends && now < offender.began + NOTICE_SECONDS)) {
        offender.total = Math.min(offender.total + count, MAX_USED - 1);
        const drained = offender.level - (now - offender.levelAt) * (violations / within);
        offender.level = Math.max(0, drained) + count;
        offender.levelAt = now;
        if (offender.level >= violations) {
          offender.level = 0;
          if (now > offender.ends) {
            const forgotten = Math.floor((now - offender.ends) / forget);
            offender.banLevel = Math.max(0, offender.banLevel - forgotten);
          }
          const step = steps[Math.min(offender.banLevel, steps.length - 1)] as number;
          length = step * (1 + jitter * (2 * random - 1));
          offender.banLevel += 1;
          offender.began = now;
          offender.ends = now + length;
        }
        const memory =
          offender.banLevel === 0
            ? 0
            : Math.max(0, offender.ends - now) +
              Math.min(forget * offender.banLevel, MEMORY_SECONDS);
        const seconds = Math.max(VIOLATIONS_SECONDS, within, memory);
        this.offenders.set(key, { ...offender, expires: now + ttl(seconds) });
      }
      words.push(length, offender.total);
    });
    return words.join(' ');
  }
}

/** The node says what is left of its lease. */
function report(bucket: Loaded, mine: Lease, left: number): void {
  if (left >= mine.amount) return;
  bucket.leased = bucket.leased - mine.amount + left;
  mine.amount = left;
  bucket.isChanged = true;
}

function ttl(seconds: number): number {
  return Math.min(Math.ceil((seconds + SPARE_SECONDS) * 1000), MAX_TTL_MS) / 1000;
}

function sum(leases: readonly Lease[]): number {
  return leases.reduce((total, { amount }) => total + amount, 0);
}
