// SimulatedQuotaStore: a SimulatedStore that also does in TypeScript what the script of a shared quota does.
// quota-script.real.test.ts compares both on a real server.

import { createQuotaScript, type QuotaCall } from '../../../lib/redis/quota/quota-script.js';
import type { Limit } from '../../../lib/redis/store/limit.js';
import { SimulatedStore } from './simulated-store.js';

interface Entry {
  at: number;
  amount: number;
}

interface QuotaLease {
  node: string;
  id: number;
  ends: number;
  left: Map<string, number>;
}

interface QuotaState {
  last: number;
  blocked: number;
  grace: number;
  created: number;
  epoch: string;
  logs: Map<string, { unit: string; seconds: number; entries: Entry[] }>;
  leases: QuotaLease[];
  waiting: { node: string; ends: number; need: Map<string, number> }[];
}

/** Entries of a log beyond which it is merged. */
const MAX_ENTRIES = 256;
const NO_LIMIT: Limit = {
  rateLimit: 1,
  burstLimit: 1,
  disconnectThreshold: null,
  leaseSeconds: 1,
  shortLeaseSeconds: 1,
};

export class SimulatedQuotaStore extends SimulatedStore {
  readonly #clock: () => number;
  #states = new Map<string, QuotaState & { expires: number }>();
  #hasScript = false;

  constructor(clock: () => number) {
    super(NO_LIMIT, clock);
    this.#clock = clock;
  }

  override snapshot(): () => void {
    const restore = super.snapshot();
    const states = structuredClone(this.#states);
    return () => {
      restore();
      this.#states = structuredClone(states);
    };
  }

  override flush(): void {
    super.flush();
    this.#states.clear();
  }

  override flushScripts(): void {
    super.flushScripts();
    this.#hasScript = false;
  }

  override evalSha(sha: string, keys: string[], args: string[]): unknown {
    if (sha !== createQuotaScript(this.runId).sha) return super.evalSha(sha, keys, args);
    if (!this.#hasScript) throw new Error('NOSCRIPT No matching script.');
    return this.call(keys[0] as string, args);
  }

  override eval(source: string, keys: string[], args: string[]): unknown {
    if (!source.endsWith(createQuotaScript('').text.slice(4))) {
      return super.eval(source, keys, args);
    }
    if (source === createQuotaScript(this.runId).text) this.#hasScript = true;
    return this.call(keys[0] as string, args);
  }

  /** Runs the script. */
  call(key: string, args: string[], now = this.#clock()): unknown {
    const [latest = 0, , , , , back = 0] = (args[0] as string).split(' ').map(Number);
    if (now > latest) return ['late', String(now)];
    const node = args[1] as string;
    const call = JSON.parse(args[2] as string) as QuotaCall;
    const known = this.#states.get(key);
    const state: QuotaState =
      known !== undefined && known.expires > now ? structuredClone(known) : newState(now);
    if (state.last > now) setBack(state, Math.max(state.last - now, back));
    state.last = now;
    const mine = state.leases.find((lease) => lease.node === node && lease.ends > now);
    if (mine !== undefined && call.id <= mine.id) return ['stale'];
    const reply = execute(state, mine, node, call, now);
    const longest = Math.max(0, ...[...state.logs.values()].map(({ seconds }) => seconds));
    this.#states.set(key, { ...state, expires: now + longest + call.leaseSeconds + 2 });
    return reply;
  }
}

function newState(now: number): QuotaState {
  const times = { last: now, blocked: 0, grace: 0, created: now };
  return { ...times, epoch: '', logs: new Map(), leases: [], waiting: [] };
}

function setBack(state: QuotaState, seconds: number): void {
  state.blocked -= seconds;
  state.grace -= seconds;
  state.created -= seconds;
  for (const { entries } of state.logs.values()) for (const entry of entries) entry.at -= seconds;
  for (const item of [...state.leases, ...state.waiting]) item.ends -= seconds;
}

function execute(
  state: QuotaState,
  known: QuotaLease | undefined,
  node: string,
  call: QuotaCall,
  now: number,
): string[] {
  const { logs } = state;
  const quotas = new Map(call.windows.map((window) => [nameOf(window), window.quota]));
  for (const { unit, seconds } of call.windows) {
    const name = nameOf({ unit, seconds });
    if (logs.has(name)) continue;
    const ofUnit = [...logs.values()].filter((log) => log.unit === unit);
    const [longest] = ofUnit.sort((a, b) => b.seconds - a.seconds);
    logs.set(name, { unit, seconds, entries: structuredClone(longest?.entries ?? []) });
  }
  const spend = (unit: string, at: number, amount: number) => {
    for (const [name, log] of logs) {
      if (log.unit !== unit) continue;
      const excess = Math.max(0, amount / (quotas.get(name) ?? Infinity) - 1);
      log.entries.push({ at: at + excess * log.seconds, amount });
      log.entries.sort((a, b) => a.at - b.at);
    }
  };
  for (const { ends, left } of state.leases) {
    if (ends > now) continue;
    for (const [unit, amount] of left) if (amount > 0) spend(unit, ends, amount);
  }
  state.leases = state.leases.filter(({ ends }) => ends > now);
  const isOlder = call.known > 0 && (known === undefined || known.id < call.known);
  const isLost = isOlder || (call.epoch !== '' && call.epoch !== state.epoch);
  if (state.epoch === '' || (isOlder && call.epoch === state.epoch)) {
    Object.assign(state, { epoch: call.newEpoch, created: now });
  }
  if (isLost) state.grace = Math.max(state.grace, state.created + call.graceSeconds);
  for (const [reportedIn = 0, age = 0, ...amounts] of call.spent) {
    if (reportedIn <= (known?.id ?? 0)) continue;
    call.units.forEach((unit, index) => {
      if (amounts[index] !== 0) spend(unit, now - age, amounts[index] as number);
    });
  }
  const mine = known ?? { node, id: 0, ends: 0, left: new Map() };
  if (known === undefined) state.leases.push(mine);
  mine.id = call.id;
  mine.ends = now + call.leaseSeconds;
  mine.left = new Map();
  if (call.block > 0) state.blocked = Math.max(state.blocked, now + call.block);
  for (const [name, log] of logs) {
    const isLong = log.entries.length > MAX_ENTRIES;
    log.entries = log.entries.filter(({ at }) => at + log.seconds > now);
    const quota = quotas.get(name);
    if (isLong && quota !== undefined) log.entries = merge(log.entries, quota / (MAX_ENTRIES / 2));
    if (quota === undefined && log.entries.length === 0) logs.delete(name);
  }
  return grant(state, mine, call, now);
}

function grant(state: QuotaState, mine: QuotaLease, call: QuotaCall, now: number): string[] {
  const { node } = mine;
  const line = state.waiting.filter((waiter) => waiter.node === node || waiter.ends > now);
  const place = line.findIndex((waiter) => waiter.node === node);
  const before = place < 0 ? line : line.slice(0, place);
  state.waiting = line.filter((waiter) => waiter.node !== node);
  const others = state.waiting.length;
  let wait = Math.max(0, state.blocked - now, state.grace - now);
  const most = call.units.map(() => Infinity);
  for (const { unit, seconds, quota } of call.windows) {
    const entries = state.logs.get(nameOf({ unit, seconds }))?.entries as Entry[];
    let free = quota;
    for (const { amount } of entries) free -= amount;
    for (const { left } of state.leases) free -= left.get(unit) ?? 0;
    for (const { need } of before) free -= Math.min(need.get(unit) ?? 0, quota);
    const index = call.units.indexOf(unit);
    const first = call.first[index] as number;
    const need = Math.min(first, quota);
    if (need > 0 && need - free > quota * 1e-9) {
      const onLease = state.leases.map(({ ends, left }) => {
        return { at: ends, amount: left.get(unit) ?? 0 };
      });
      const all = [...entries, ...onLease].sort((a, b) => a.at - b.at);
      let missing = need - free;
      const last = all.find(({ amount }) => {
        missing -= amount;
        return missing <= 0;
      });
      wait = Math.max(wait, last === undefined ? call.leaseSeconds : last.at + seconds - now);
    }
    const share = (free - first) / (1 + Math.max(1, others));
    most[index] = Math.min(most[index] as number, share);
  }
  const isNeeded = call.first.some((amount) => amount > 0);
  const granted = call.units.map((unit, index) => {
    if (wait > 0 || !isNeeded) return 0;
    const ahead = Math.floor(Math.min(call.ahead[index] as number, most[index] as number));
    const amount = (call.first[index] as number) + Math.max(0, ahead);
    mine.left.set(unit, amount);
    return amount;
  });
  if (wait > 0 && isNeeded) {
    const need = new Map(call.units.map((unit, index) => [unit, call.first[index] as number]));
    const ends = now + call.leaseSeconds + 1;
    state.waiting.splice(before.length, 0, { node, ends, need });
  }
  const blocked = Math.max(0, state.blocked - now);
  return ['ok', String(wait), String(blocked), state.epoch, ...granted.map(String)];
}

function merge(entries: readonly Entry[], least: number): Entry[] {
  const merged: Entry[] = [];
  let debt = 0;
  for (const { at, amount } of entries) {
    if (amount < 0) debt -= amount;
    const paid = Math.min(debt, Math.max(0, amount));
    debt -= paid;
    if (amount - paid <= 0) continue;
    const last = merged.at(-1);
    if (last !== undefined && last.amount + amount - paid <= least) {
      merged[merged.length - 1] = { at, amount: last.amount + amount - paid };
    } else {
      merged.push({ at, amount: amount - paid });
    }
  }
  return merged;
}

function nameOf({ unit, seconds }: { unit: string; seconds: number }): string {
  return `${seconds} ${unit}`;
}
