// SimulatedStore: does in TypeScript what the scripts do, for simulations. scripts.real.test.ts shows on a real server
// that both return bit-identical results.

import { HEARTBEAT, UNREGISTER } from '../../../lib/redis/store/heartbeat-scripts.js';
import { LEASED_SHARE, type Limit, ttlMs } from '../../../lib/redis/store/limit.js';
import { createScript, type ScriptName } from '../../../lib/redis/store/limit-scripts.js';
import { refill } from '../../../lib/tables/arithmetic.js';

interface Lease {
  nodeId: number;
  id: number;
  amount: number;
  ends: number;
}

interface Bucket {
  tokens: number;
  last: number;
  violations: number;
  leases: Lease[];
  /** When the key expires. */
  expires: number;
}

const NAMES: readonly ScriptName[] = ['strict', 'lease', 'release', 'read'];

/** Formats a number exactly, as 17 digits do in the scripts. */
const text = String;

export class SimulatedStore {
  readonly buckets = new Map<string, Bucket>();
  readonly #limit: Limit;
  readonly #clock: () => number;
  readonly #nodes = new Map<string, Map<string, number>>();
  #run = 0;
  #startedAt: number;
  #loaded = new Set<string>();
  #scriptNames = new Map<string, ScriptName>();

  constructor(limit: Limit, clock: () => number) {
    this.#limit = limit;
    this.#clock = clock;
    this.#startedAt = clock();
    this.#nameScripts();
  }

  /** Starts again without any data. */
  restart(): void {
    this.buckets.clear();
    this.#nodes.clear();
    this.#startedAt = this.#clock();
    this.flushScripts();
    this.#run += 1;
    this.#nameScripts();
  }

  flushScripts(): void {
    this.#loaded = new Set();
  }

  /** @throws what a server would reply as an error. */
  evalSha(sha: string, [key]: string[], args: string[]): unknown {
    const name = this.#loaded.has(sha) ? this.#scriptNames.get(sha) : undefined;
    if (name === undefined) throw new Error('NOSCRIPT No matching script.');
    return this.#runUnexpired(name, key as string, args);
  }

  eval(source: string, [key]: string[], args: string[]): unknown {
    if (source === HEARTBEAT) return this.#heartbeat(key as string, args[0] as string);
    if (source === UNREGISTER)
      return Number(this.#nodes.get(key as string)?.delete(args[0] as string));
    for (const [sha, name] of this.#scriptNames) {
      if (createScript(name, this.#limit, this.#runId()).text !== source) continue;
      this.#loaded.add(sha);
      return this.#runUnexpired(name, key as string, args);
    }
    // A script for the previous run of the server.
    const name = NAMES.find((one) =>
      source.endsWith(createScript(one, this.#limit, '').text.slice(4)),
    );
    if (name === undefined) throw new Error('ERR unknown script');
    return this.#runUnexpired(name, key as string, args);
  }

  #runUnexpired(name: ScriptName, key: string, args: string[]): unknown {
    const expires = this.buckets.get(key)?.expires ?? 0;
    if (expires <= this.#clock()) this.buckets.delete(key);
    return this.run(name, key, args);
  }

  /** Runs a script. Keys do not expire here. */
  run(name: ScriptName, key: string, args: string[], now = this.#clock()): unknown {
    const [latest = 0, ...outage] = (args[0] as string).split(' ').map(Number);
    if (now > latest) return ['late', text(now)];
    const bucket = this.#load(key, outage, now);
    const rest = args.slice(1).map(Number);
    if (name === 'read') return [text(bucket.tokens), bucket.violations];
    this.buckets.set(key, bucket);
    const reply = this.#reply(name, bucket, rest, now);
    bucket.expires = now + ttlMs(this.#limit, bucket.violations) / 1000;
    return reply;
  }

  #reply(name: ScriptName, bucket: Bucket, args: number[], now: number): unknown {
    if (name === 'strict') return this.#strict(bucket, args);
    return name === 'lease' ? this.#lease(bucket, args, now) : this.#release(bucket, args);
  }

  #load(key: string, outage: number[], now: number): Bucket {
    const { rateLimit, burstLimit } = this.#limit;
    const known = this.buckets.get(key);
    const bucket = known ?? { tokens: 0, last: -1e300, violations: 0, leases: [], expires: 0 };
    const ended = bucket.leases.filter(({ ends }) => ends <= now);
    const events = ended.map(({ ends, amount }) => ({ at: ends, amount, lost: 0, raised: 0 }));
    let leased = sum(bucket.leases);
    let capacity = burstLimit;
    if (outage.length > 0) {
      const [since, lost, emptyUntil, halfUntil] = outage as [number, number, number, number];
      if (bucket.last < since) events.push({ at: since, amount: 0, lost, raised: 0 });
      if (halfUntil > since) {
        capacity = 0;
        const half = burstLimit * (1 - LEASED_SHARE);
        if (emptyUntil <= now) events.push({ at: emptyUntil, amount: 0, lost: 0, raised: half });
        if (halfUntil <= now)
          events.push({ at: halfUntil, amount: 0, lost: 0, raised: burstLimit });
      }
    }
    let { tokens, last } = bucket;
    const refillTo = (time: number) => {
      tokens = refill(tokens, last, time, rateLimit, capacity - leased);
      last = time;
    };
    for (const { at, amount, lost, raised } of events.sort((a, b) => a.at - b.at)) {
      if (at > last) refillTo(at);
      leased -= amount;
      if (lost > 0) tokens = Math.max(0, tokens - lost);
      capacity = Math.max(capacity, raised);
    }
    refillTo(now);
    const leases = bucket.leases.filter(({ ends }) => ends > now).map((lease) => ({ ...lease }));
    return { tokens, last, violations: bucket.violations, leases, expires: 0 };
  }

  #strict(bucket: Bucket, [cost = 1]: number[]): unknown {
    const { disconnectThreshold } = this.#limit;
    const isAllowed = bucket.tokens >= cost;
    if (isAllowed) bucket.tokens -= cost;
    else bucket.violations += 1;
    const isGone = bucket.violations >= (disconnectThreshold ?? Infinity);
    return `${isAllowed ? 'a' : isGone ? 'd' : 'w'}${text(bucket.tokens)}`;
  }

  #lease(bucket: Bucket, args: number[], now: number): unknown {
    const [nodeId, known, left, violations, id, first, all, ahead] = args as [
      ...[number, number, number, number],
      ...[number, number, number, number],
    ];
    const { burstLimit, leaseSeconds } = this.#limit;
    bucket.violations += violations;
    const mine = bucket.leases.find((lease) => lease.nodeId === nodeId);
    const carried = mine !== undefined && left <= mine.amount + 1e-6 ? 1 : 0;
    if (mine !== undefined && mine.id === known && left < mine.amount) mine.amount = left;
    let granted = 0;
    if (bucket.tokens >= all) granted = all;
    else if (bucket.tokens >= first) granted = Math.max(first, Math.floor(bucket.tokens));
    if (granted >= all) {
      const leasable = (burstLimit * LEASED_SHARE - sum(bucket.leases) - granted) / 2;
      const most = Math.min(ahead, leasable, bucket.tokens - granted);
      if (most >= 1) granted += Math.floor(most);
    }
    const isShort = sum(bucket.leases) + granted > burstLimit * LEASED_SHARE;
    const lifetime = isShort ? this.#limit.shortLeaseSeconds : leaseSeconds;
    if (granted > 0) {
      bucket.tokens -= granted;
      const ends = Math.max(mine?.ends ?? 0, now + lifetime);
      const lease = { nodeId, id, amount: granted + (mine?.amount ?? 0), ends };
      if (mine === undefined) bucket.leases.push(lease);
      else Object.assign(mine, lease);
    } else if (mine?.amount === 0) {
      bucket.leases = bucket.leases.filter((lease) => lease !== mine);
    }
    return [text(granted), carried, text(bucket.tokens), bucket.violations, text(lifetime)];
  }

  #release(bucket: Bucket, args: number[]): unknown {
    const [nodeId, known, left, violations] = args as [number, number, number, number];
    bucket.violations += violations;
    const mine = bucket.leases.find((lease) => lease.nodeId === nodeId);
    if (mine !== undefined && mine.id === known) {
      bucket.tokens += Math.min(left, mine.amount);
      bucket.leases = bucket.leases.filter((lease) => lease !== mine);
    }
    return bucket.violations;
  }

  #heartbeat(key: string, nodeId: string): unknown {
    const now = this.#clock();
    const nodes = this.#nodes.get(key) ?? new Map<string, number>();
    this.#nodes.set(key, nodes.set(nodeId, now));
    for (const [node, seenAt] of nodes) if (seenAt < now - 15) nodes.delete(node);
    return [this.#runId(), Math.floor(now - this.#startedAt), text(now), nodes.size];
  }

  #runId(): string {
    return `run${this.#run}`;
  }

  #nameScripts(): void {
    for (const name of NAMES)
      this.#scriptNames.set(createScript(name, this.#limit, this.#runId()).sha, name);
  }
}

function sum(leases: readonly Lease[]): number {
  return leases.reduce((total, { amount }) => total + amount, 0);
}
