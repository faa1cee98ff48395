// The contestants: the limiters that the benchmark measures. Each gets the same limits and keys, and must first prove
// that it limits: otherwise a limiter that is fast because it limits nothing would win.

import { createRequire } from 'node:module';
import { RateLimiter as TokenBucketLimiter } from 'limiter';
import { RateLimiterMemory } from 'rate-limiter-flexible';
import { type CheckResult, type EngineName, RateLimiter } from 'relay-limiter';
import { floor } from './floor.js';
import { type Peers, peerKey } from './keys.js';
import { PlainMap } from './plain-map.js';

const require = createRequire(import.meta.url);

/** Tokens per second: low enough that no bucket gains a token during a measurement. */
export const RATE = 0.0001;

const DAY_SECONDS = 86_400;

export interface Limits {
  burst: number;
  /** The expected number of peers, for contestants that need it in advance. */
  peers: number;
}

/** Checks a peer and counts the check. Returns true if it is allowed. */
export type Check = (key: string) => boolean;
/** Checks a peer. Rejects if the check is refused. */
export type Consume = (key: string) => Promise<unknown>;
export type Subject =
  | {
      readonly answers: 'at once';
      readonly check: Check;
      /** Must be called before a peer's first check, if the contestant requires created peers. */
      readonly create?: (key: string) => void;
    }
  | { readonly answers: 'later'; readonly consume: Consume };

export const FLOOR = 'crossing floor';
export const MAP = 'plain Map';
export const NATIVE = 'native';
export const TYPESCRIPT = 'TypeScript';
const FLEXIBLE = 'rate-limiter-flexible';
const LIMITER = 'limiter';
const HYPERLIMIT = '@hyperlimit/core';

/** The contestants that support every operation: open, group, remove, clean up, statistics. */
export const COMPLETE = [MAP, TYPESCRIPT, NATIVE];
/** The contestants of other packages. */
export const OTHERS = [LIMITER, FLEXIBLE, HYPERLIMIT];

/** The common interface of the plain Map and our limiters. */
export type Complete = Pick<RateLimiter, 'check' | 'removePeer' | 'cleanupOldPeers' | 'clear'> &
  Pick<PlainMap, 'getStats'>;

const ENGINES: Record<string, EngineName> = { [NATIVE]: 'native', [TYPESCRIPT]: 'js' };

export function ours(
  name: string,
  burst: number,
  { maxPeers = Infinity, rate = RATE }: { maxPeers?: number; rate?: number | undefined } = {},
): RateLimiter {
  const engine = ENGINES[name];
  return new RateLimiter({ engine, rateLimit: rate, burstLimit: burst, maxPeers });
}

export function isOurs(name: string): boolean {
  return name in ENGINES;
}

/** Creates a contestant that supports every operation, after it has proved that it limits. */
export async function proven(name: string, burst: number): Promise<Complete> {
  await prove(completeSubject(name));
  return complete(name, burst);
}

/** @throws if the limiter does not have exactly this number of peers. */
export function requirePeers(limiter: Complete, peers: number): void {
  const { trackedPeers } = limiter.getStats();
  if (trackedPeers !== peers) throw new Error(`it keeps ${trackedPeers} of ${peers} peers`);
}

export function complete(name: string, burst: number): Complete {
  return isOurs(name) ? ours(name, burst) : new PlainMap(RATE, burst);
}

/** Creates the contestant to be timed, after it has proved that it limits. */
export async function subject(name: string, limits: Limits): Promise<Subject> {
  const make = MAKERS[name];
  if (make === undefined) throw new Error(`no such contestant: ${name}`);
  if (name !== FLOOR) await prove(make);
  return make(limits);
}

type Maker = (limits: Limits) => Subject;

const MAKERS: Record<string, Maker> = {
  [FLOOR]: () => {
    const { length } = floor();
    return atOnce((key) => length(key) > 0);
  },
  [MAP]: completeSubject(MAP),
  [NATIVE]: completeSubject(NATIVE),
  [TYPESCRIPT]: completeSubject(TYPESCRIPT),
  [LIMITER]: ({ burst }) => {
    const limiters = new Map<string, TokenBucketLimiter>();
    const interval = DAY_SECONDS * 1000;
    return atOnce((key) => {
      let limiter = limiters.get(key);
      if (limiter === undefined) {
        limiter = new TokenBucketLimiter({ tokensPerInterval: burst, interval });
        limiters.set(key, limiter);
      }
      return limiter.tryRemoveTokens(1);
    });
  },
  [FLEXIBLE]: ({ burst }) => {
    const limiter = new RateLimiterMemory({ points: burst, duration: DAY_SECONDS });
    return { answers: 'later', consume: (key) => limiter.consume(key) };
  },
  [HYPERLIMIT]: ({ burst, peers }) => {
    const { HyperLimit } = require('@hyperlimit/core');
    const limiter = new HyperLimit({ bucketCount: tableFor(peers) });
    return {
      answers: 'at once',
      create: (key) => limiter.createLimiter(key, burst, DAY_SECONDS * 1000),
      check: (key) => limiter.tryRequest(key),
    };
  },
};

/** Returns a table size of at least twice the number of peers: a power of two, at least its default of 16,384. */
function tableFor(peers: number): number {
  return Math.max(16_384, 2 ** Math.ceil(Math.log2(peers * 2)));
}

function completeSubject(name: string): Maker {
  return ({ burst }) => {
    const limiter = complete(name, burst);
    return atOnce((key) => allows(limiter.check(key)));
  };
}

function atOnce(check: Check): Subject {
  return { answers: 'at once', check };
}

export function allows(result: CheckResult): boolean {
  return result[0] === 'allow';
}

/** Checks every peer once. @throws if that takes too long. */
export function fill(
  limiter: { check(key: string): unknown; create?: (key: string) => void },
  peers: Peers,
): void {
  // Processor time of this process, because other contestants prepare at the same time.
  const started = process.cpuUsage().user;
  const most = 30e6 + peers.size * 10;
  for (let n = 0; n < peers.size; n += 1) {
    const key = peers.key(n);
    limiter.create?.(key);
    limiter.check(key);
    const used = n % 1024 === 0 ? process.cpuUsage().user - started : 0;
    if (used > most)
      throw new Error(`creating a peer takes ${(used / (n + 1) / 1e3).toFixed(2)} ms`);
  }
}

async function answer(subject: Subject, key: string): Promise<boolean> {
  if (subject.answers === 'at once') return subject.check(key);
  return subject.consume(key).then(
    () => true,
    () => false,
  );
}

/**
 * Proves that a burst of two allows exactly two checks, and that of 1,000 peers without tokens none is forgotten.
 * @throws if the contestant fails.
 */
export async function prove(make: Maker): Promise<void> {
  const pair = make({ burst: 2, peers: 1000 });
  for (const key of ['a', 'b']) create(pair, key);
  const answers: boolean[] = [];
  for (const key of ['a', 'a', 'a', 'b']) answers.push(await answer(pair, key));
  if (answers.join() !== 'true,true,false,true') throw new Error('it does not limit');
  const single = make({ burst: 1, peers: 1000 });
  const keys = Array.from({ length: 1000 }, (_, n) => peerKey(n));
  for (const key of keys) create(single, key);
  for (const key of keys) await answer(single, key);
  let forgotten = 0;
  for (const key of keys) if (await answer(single, key)) forgotten += 1;
  if (forgotten > 0) throw new Error(`it forgets: ${forgotten} of 1,000 peers were let in again`);
}

function create(subject: Subject, key: string): void {
  if (subject.answers === 'at once') subject.create?.(key);
}

/** Proves the same of opened peers and of groups. */
export function proveOurs(name: string): void {
  const limiter = ours(name, 2);
  const peer = limiter.open('a');
  const opened = [peer, peer, limiter.open('a'), limiter.open('b')].map((one) => one.check());
  const group = ours(name, 2).group(['a', 'b']);
  const verdicts = [1, 2, 3].map(() => group.check().join());
  if (
    opened.map(allows).join() !== 'true,true,false,true' ||
    verdicts.join(' ') !== '0,0 0,0 1,1'
  ) {
    throw new Error('it does not limit');
  }
}
