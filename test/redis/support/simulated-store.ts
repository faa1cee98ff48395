// SimulatedStore: does in TypeScript what the scripts do, for simulations. scripts.real.test.ts shows on a real server
// that both return bit-identical results.

import { limitOfContent } from '../../../lib/redis/limit/changeable-limit.js';
import { REPORT } from '../../../lib/redis/store/fleet-scripts.js';
import { HEARTBEAT, UNREGISTER } from '../../../lib/redis/store/heartbeat-scripts.js';
import {
  FIRST_SPARE,
  LEASED_SHARE,
  type Limit,
  RENEWAL_SECONDS,
  ttlMs,
} from '../../../lib/redis/store/limit.js';
import { createScript, type ScriptName } from '../../../lib/redis/store/limit-scripts.js';
import { CHANGE_VERSION, readVersion, SYNC_VERSION } from '../../../lib/redis/store/version.js';
import { refill } from '../../../lib/tables/arithmetic.js';
import { SimulatedVersion } from './simulated-version.js';

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
  /** When the key expires, in milliseconds. */
  expires: number;
  /** The cost, if the state is that of a first check. */
  firstCost?: number;
}

/** The memory of losses of one shard. */
interface Losses {
  epoch: string;
  /** The number of each node's last heartbeat. */
  numbers: Map<string, number>;
  /** The last loss; undefined if there was none. */
  loss?: { since: number; empty: number; half: number };
}

const NAMES: readonly ScriptName[] = ['strict', 'first', 'lease', 'release', 'read'];
/** The node of leases that hold the costs of first checks. */
export const NO_NODE = 0;

type Four<T = number> = [T, T, T, T];

/** Formats a number exactly, as 17 digits do in the scripts. */
const text = String;

export class SimulatedStore {
  readonly buckets = new Map<string, Bucket>();
  /** The limit of the script that runs. */
  #limit: Limit;
  /** Limits that nodes may have: the first one, and those after changes. */
  readonly #limits: Limit[];
  /** The changed limit. Its text is empty before the first change. */
  readonly version: SimulatedVersion;
  /** The totals of the fleet, and the reports of nodes. */
  fleet = { totals: [] as number[], reports: new Map<string, string>() };
  readonly #clock: () => number;
  /** When each node of a shard was last seen, by the key of nodes. */
  #nodes = new Map<string, Map<string, number>>();
  #losses = new Map<string, Losses>();
  #run = 0;
  #startedAt: number;
  #loaded = new Set<string>();
  #scripts = new Map<string, { name: ScriptName; limit: Limit }>();

  constructor(limit: Limit, clock: () => number) {
    this.#limit = limit;
    this.#limits = [limit];
    this.#clock = clock;
    this.version = new SimulatedVersion(clock);
    this.#startedAt = clock();
    this.#nameScripts();
  }

  /** What is stored, as a snapshot of the store would hold it. */
  snapshot(): () => void {
    const state = structuredClone([this.buckets, this.#nodes, this.#losses] as const);
    return () => {
      this.restart();
      for (const [key, bucket] of structuredClone(state[0])) this.buckets.set(key, bucket);
      this.#nodes = structuredClone(state[1]);
      this.#losses = structuredClone(state[2]);
    };
  }

  /** Loses its data and goes on, as after FLUSHALL. */
  flush(): void {
    this.buckets.clear();
    this.version.text = '';
    this.fleet = { totals: [], reports: new Map() };
    this.#nodes.clear();
    this.#losses.clear();
  }

  /** Starts again without any data. */
  restart(): void {
    this.flush();
    this.#startedAt = this.#clock();
    this.flushScripts();
    this.#run += 1;
    this.#nameScripts();
  }

  #report([node, totals, answered, peers, wanted]: string[]): string[] {
    const { fleet } = this;
    const now = Math.floor(this.#clock());
    const numbers = (words = '') => words.split(' ').map(Number);
    const before = numbers(fleet.reports.get(node as string)?.split('|')[1] ?? answered);
    const given = numbers(totals).map((total, at) => Math.max(total, before[at] as number));
    fleet.totals = given.map(
      (total, at) => (fleet.totals[at] ?? 0) + total - (before[at] as number),
    );
    fleet.reports.set(node as string, `${now}|${given.join(' ')}|${peers}`);
    const all = wanted === 'all' ? [String(now), ...fleet.reports.values()] : [];
    return [fleet.totals.join(' '), ...all];
  }

  #changeLimit(args: string[]): string {
    const text = this.version.change(args);
    this.learn(limitOfContent(readVersion(text)?.content ?? ''));
    return text;
  }

  /** Knows the scripts of another limit too. */
  learn(limit: Partial<Limit>): void {
    this.#limits.push({ ...(this.#limits[0] as Limit), ...limit });
    this.#nameScripts();
  }

  flushScripts(): void {
    this.#loaded = new Set();
  }

  /** @throws what a server would reply as an error. */
  evalSha(sha: string, keys: string[], args: string[]): unknown {
    const script = this.#loaded.has(sha) ? this.#scripts.get(sha) : undefined;
    if (script === undefined) throw new Error('NOSCRIPT No matching script.');
    this.#limit = script.limit;
    return this.#runUnexpired(script.name, keys, args);
  }

  eval(source: string, keys: string[], args: string[]): unknown {
    const [key] = keys;
    if (source === HEARTBEAT) return this.#heartbeat(key as string, args[0] as string);
    if (source === UNREGISTER)
      return Number(this.#nodes.get(key as string)?.delete(args[0] as string));
    if (source === REPORT) return this.#report(args);
    if (source === SYNC_VERSION) return this.version.sync(args);
    if (source === CHANGE_VERSION) return this.#changeLimit(args);
    for (const [sha, { name, limit }] of this.#scripts) {
      if (createScript(name, limit, this.runId).text !== source) continue;
      this.#loaded.add(sha);
      this.#limit = limit;
      return this.#runUnexpired(name, keys, args);
    }
    // A script for the previous run of the server.
    for (const limit of this.#limits) {
      const name = NAMES.find((one) => source.endsWith(createScript(one, limit, '').text.slice(4)));
      if (name === undefined) continue;
      this.#limit = limit;
      return this.#runUnexpired(name, keys, args);
    }
    throw new Error('ERR unknown script');
  }

  #runUnexpired(name: ScriptName, keys: readonly string[], args: string[]): unknown {
    for (const key of keys) {
      const expires = this.buckets.get(key)?.expires ?? 0;
      if (expires <= this.#clock() * 1000) this.buckets.delete(key);
    }
    return this.run(name, keys, args);
  }

  /** Runs a script. Keys do not expire here. */
  run(name: ScriptName, keys: readonly string[], args: string[], now = this.#clock()): unknown {
    const [latest = 0, ...outage] = (args[0] as string).split(' ').map(Number);
    if (name === 'strict' && outage.length === 0) {
      const tokens = this.#takeFast(keys[0] as string, Number(args[1] ?? 1), now, latest);
      if (tokens !== undefined) return tokens;
    }
    if (now > latest) return ['late', text(now)];
    const rest = args.slice(1).map(Number);
    if (name === 'release') {
      const [nodeId = 0, ...leases] = rest;
      keys.forEach((key, at) => {
        const bucket = this.#load(key, outage, now);
        this.#release(bucket, nodeId, leases.slice(3 * at, 3 * at + 3));
        this.#save(key, bucket, now);
      });
      return keys.length;
    }
    const [key] = keys as [string];
    const bucket = this.#load(key, outage, now);
    if (name === 'read') return [text(bucket.tokens), bucket.violations];
    if (name !== 'lease')
      return this.#take(key, bucket, name, rest[0] ?? 1, now, outage.length > 0);
    const reply = this.#lease(bucket, rest, now);
    this.#save(key, bucket, now);
    return reply;
  }

  #save(key: string, bucket: Bucket, now: number): void {
    const nowMs = wholeMs(now);
    const ttl = ttlMs(this.#limit, { isOffender: bucket.violations > 0 });
    const isEarly = (this.buckets.get(key)?.last ?? 0) > now;
    if (isEarly || bucket.expires < nowMs + ttl) {
      bucket.expires = Math.max(bucket.expires, nowMs + ttl + RENEWAL_SECONDS * 1000);
    }
    this.buckets.set(key, bucket);
  }

  /** The fast path of the script `strict`. */
  #takeFast(key: string, cost: number, now: number, latest: number): number | undefined {
    const { rateLimit, burstLimit } = this.#limit;
    const known = this.buckets.get(key);
    if (known === undefined || known.firstCost !== undefined || known.leases.length > 0) return;
    const { last, violations, expires } = known;
    const tokens = Math.min(known.tokens + (now - last) * rateLimit, burstLimit) - cost;
    const ttl = ttlMs(this.#limit, { isOffender: violations > 0 });
    const isShort = expires - Math.round(now * 1e6) / 1000 < ttl;
    if (tokens < 0 || now < last || now > latest || isShort) return;
    this.buckets.set(key, { ...known, tokens, last: now });
    return Math.trunc(tokens);
  }

  #take(
    key: string,
    bucket: Bucket,
    name: 'strict' | 'first',
    cost: number,
    now: number,
    isAfterOutage: boolean,
  ): unknown {
    const known = this.buckets.get(key);
    const rest = bucket.tokens - cost;
    if (rest < 0) {
      bucket.violations += 1;
      this.#save(key, bucket, now);
      const isGone = bucket.violations >= (this.#limit.disconnectThreshold ?? Infinity);
      return `${isGone ? 'd' : 'w'}${text(bucket.tokens)}`;
    }
    bucket.tokens = rest;
    const isInteger = known === undefined && !isAfterOutage && cost % 1 === 0 && cost <= 999;
    if (name === 'first') {
      const { shortLeaseSeconds } = this.#limit;
      const needed = now + shortLeaseSeconds;
      const held = bucket.leases.find((one) => one.nodeId === NO_NODE && one.ends >= needed);
      // The state of the very first check is an integer, with a lease that ends when it is needed no more.
      const spare = isInteger ? 0 : shortLeaseSeconds * FIRST_SPARE;
      if (held !== undefined) held.amount += cost;
      else bucket.leases.push({ nodeId: NO_NODE, id: 0, amount: cost, ends: needed + spare });
    }
    if (isInteger) {
      const expires = wholeMs(now) + ttlMs(this.#limit);
      this.buckets.set(key, { ...bucket, expires, firstCost: cost });
    } else {
      this.#save(key, bucket, now);
    }
    return Math.trunc(bucket.tokens);
  }

  #load(key: string, outage: number[], now: number): Bucket {
    const { rateLimit, burstLimit } = this.#limit;
    const known = this.buckets.get(key);
    const bucket = known ?? { tokens: 0, last: -1e300, violations: 0, leases: [], expires: 0 };
    let [since, lost, emptyUntil, halfUntil, back] = outage as [...Four, number];
    if (since > now) {
      const early = since - now;
      [since, emptyUntil, halfUntil] = [now, emptyUntil - early, halfUntil - early];
    }
    let { tokens, last } = bucket;
    const { firstCost } = bucket;
    if (firstCost !== undefined) tokens = Math.max(0, burstLimit - firstCost);
    const early = last > now ? Math.max(last - now, back ?? 0) : 0;
    last -= early;
    const leases = bucket.leases.map((lease) => ({ ...lease, ends: lease.ends - early }));
    const ended = leases.filter(({ ends }) => ends <= now);
    const events = ended.map(({ ends, amount }) => ({ at: ends, amount, lost: 0, raised: 0 }));
    let leased = sum(leases);
    let capacity = burstLimit;
    if (outage.length > 0) {
      if (last < since) events.push({ at: since, amount: 0, lost, raised: 0 });
      if (halfUntil > since) {
        capacity = 0;
        const half = burstLimit * (1 - LEASED_SHARE);
        if (emptyUntil <= now) events.push({ at: emptyUntil, amount: 0, lost: 0, raised: half });
        if (halfUntil <= now)
          events.push({ at: halfUntil, amount: 0, lost: 0, raised: burstLimit });
      }
    }
    const refillTo = (time: number) => {
      tokens = refill(tokens, last, time, rateLimit, Math.max(0, capacity - leased));
      last = time;
    };
    for (const { at, amount, lost, raised } of events.sort((a, b) => a.at - b.at)) {
      if (at > last) refillTo(at);
      leased -= amount;
      if (lost > 0) tokens = Math.max(0, tokens - lost);
      capacity = Math.max(capacity, raised);
    }
    refillTo(now);
    const open = leases.filter(({ ends }) => ends > now);
    const expires = bucket.expires - Math.floor(early * 1000);
    return { tokens, last, violations: bucket.violations, leases: open, expires };
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

  #release(bucket: Bucket, nodeId: number, lease: readonly number[]): void {
    const [known, left, violations] = lease as [number, number, number];
    bucket.violations += violations;
    const mine = bucket.leases.find((one) => one.nodeId === nodeId);
    if (mine !== undefined && mine.id === known) {
      bucket.tokens += Math.min(left, mine.amount);
      bucket.leases = bucket.leases.filter((one) => one !== mine);
    }
  }

  #heartbeat(key: string, argument: string): unknown {
    const now = this.#clock();
    const words = argument.split(' ') as [...Four<string>, string];
    const [nodeId, number, answered, run, epoch, ...seconds] = words;
    const [elapsed, halfSeconds, short, long] = seconds.map(Number) as Four;
    const nodes = this.#nodes.get(key) ?? new Map<string, number>();
    const losses: Losses = this.#losses.get(key) ?? { epoch: '', numbers: new Map() };
    const uptime = Math.floor(now - this.#startedAt);
    let isLost: boolean;
    if (Number(answered) > 0) {
      const wentBack = (losses.numbers.get(nodeId) ?? 0) < Number(answered);
      isLost = losses.epoch !== epoch || wentBack || (run !== this.runId && uptime < elapsed + 1);
    } else {
      const wasVisited = [...nodes.values()].some((seenAt) => seenAt >= now - uptime);
      isLost = uptime >= 0 && uptime + 1 < elapsed && !wasVisited;
    }
    if (isLost && !(losses.loss !== undefined && losses.loss.since > now - elapsed)) {
      const half = Math.max(losses.loss?.half ?? 0, halfSeconds > 0 ? now + halfSeconds : 0);
      losses.loss = { since: now, empty: Math.max(now + short, half), half: now + long };
      losses.epoch = '';
    }
    losses.epoch ||= `${nodeId}-${number}`;
    losses.numbers.set(nodeId, Number(number));
    this.#losses.set(key, losses);
    this.#nodes.set(key, nodes.set(nodeId, now));
    for (const [node, seenAt] of nodes) {
      if (seenAt > now) nodes.set(node, now);
      else if (seenAt < now - 15) nodes.delete(node);
    }
    const { since, empty, half } = losses.loss ?? { since: '', empty: 0, half: 0 };
    const { epoch: current } = losses;
    return [this.runId, text(now), nodes.size, current, text(since), text(empty), text(half)];
  }

  /** The id of this run of the server. */
  get runId(): string {
    return `run${this.#run}`;
  }

  #nameScripts(): void {
    for (const limit of this.#limits) {
      for (const name of NAMES) {
        this.#scripts.set(createScript(name, limit, this.runId).sha, { name, limit });
      }
    }
  }
}

/** A time in whole milliseconds. */
function wholeMs(seconds: number): number {
  return Math.floor(Math.round(seconds * 1e6) / 1000);
}

function sum(leases: readonly Lease[]): number {
  return leases.reduce((total, { amount }) => total + amount, 0);
}
