// What a check costs: by key, of opened peers, of groups.

import { freemem } from 'node:os';
import {
  allows,
  COMPLETE,
  type Consume,
  FLOOR,
  fill,
  isOurs,
  NATIVE,
  OTHERS,
  ours,
  proveOurs,
  subject,
} from '../contestants.js';
import { Peers, shuffled } from '../keys.js';
import { time, timeLater } from '../timing.js';
import { type Case, type Metric, type Round, SIZES } from './case.js';

// So much that timing never empties a bucket.
const ENOUGH = 1e9;
// Checks in a piece of work: so many that what surrounds them costs nothing.
const BATCH = 1_000;

const METRICS: readonly Metric[] = [{ name: 'ns', unit: 'ns', label: 'a check' }];
const COMMON = { rounds: 7, fresh: false, metrics: METRICS } as const;

// Members of all groups, which are checked one group after the other: none is in a cache because it
// was just checked.
const MOST_MEMBERS = 1_000_000;
const NO_VERDICT = 9;

// Its records take 4 GB, and the keys on their way some more.
const HUNDRED_MILLION = 100_000_000;
const ROOM_FOR_THEM = 10e9;

const byKey = {
  ...COMMON,
  // Others' limiters would take many gigabytes at ten million.
  contestants: (size: number) => {
    if (size === HUNDRED_MILLION) return [FLOOR, NATIVE];
    return [FLOOR, ...COMPLETE, ...(size <= 1_000_000 ? OTHERS : [])];
  },
};

export const allowed: Case = {
  ...byKey,
  name: 'allowed',
  title: 'check by key, allowed',
  sizes: [...SIZES, HUNDRED_MILLION],
  prepare: (contestant, size) => checkByKey(contestant, size, ENOUGH),
};

export const refused: Case = {
  ...byKey,
  name: 'refused',
  title: 'check by key, refused',
  sizes: SIZES,
  prepare: (contestant, size) => checkByKey(contestant, size, 1),
};

export const opened: Case = {
  ...COMMON,
  name: 'opened',
  title: 'check of an opened peer (the Map: by key)',
  sizes: SIZES,
  contestants: () => COMPLETE,
  prepare: async (contestant, size) => {
    if (!isOurs(contestant)) return checkByKey(contestant, size, ENOUGH);
    proveOurs(contestant);
    const peers = new Peers(size);
    const limiter = ours(contestant, ENOUGH);
    fill(limiter, peers);
    // Not in the order in which they are checked: peers come one by one, over hours.
    const opened = shuffled(peers.sample.map((key) => limiter.open(key)));
    // The first check of an opened peer goes by its key. It is measured by `allowed`.
    for (const peer of opened) peer.check();
    return timed(opened, (peer) => allows(peer.check()), true);
  },
};

export const groups: Case[] = [64, 1_024, 50_000].map((members) => ({
  ...COMMON,
  name: `group-${members}`,
  title: `check in a group of ${members.toLocaleString('en')}, a member (the Map: by key)`,
  // A group of a thousand peers is near enough to one of 1,024.
  sizes: SIZES.filter((size) => size * 1.1 > members),
  contestants: () => COMPLETE,
  prepare: async (contestant, size) => {
    if (!isOurs(contestant)) return checkByKey(contestant, size, ENOUGH, MOST_MEMBERS);
    proveOurs(contestant);
    const peers = new Peers(size, MOST_MEMBERS);
    const limiter = ours(contestant, ENOUGH);
    fill(limiter, peers);
    const groups: ReturnType<typeof limiter.group>[] = [];
    const each = Math.min(members, peers.sample.length);
    for (let from = 0; from + each <= peers.sample.length; from += each) {
      groups.push(limiter.group(peers.sample.slice(from, from + each)));
    }
    const verdicts = new Uint8Array(each);
    // Every member's verdict is written, and says that it may.
    for (const group of groups) {
      if (group.check(1, verdicts.fill(NO_VERDICT)).some((verdict) => verdict !== 0)) {
        throw new Error('a member of a group was not allowed');
      }
    }
    const last = each - 1;
    return timed(groups, (group) => group.check(1, verdicts)[last] === 0, true, each);
  },
}));

async function checkByKey(contestant: string, size: number, burst: number, most?: number) {
  if (size === HUNDRED_MILLION && freemem() < ROOM_FOR_THEM) throw new Error('too little memory');
  const peers = new Peers(size, most);
  const limiter = await subject(contestant, { burst, peers: size });
  const allowed = burst === ENOUGH || contestant === FLOOR;
  if (limiter.answers === 'at once') {
    fill(limiter, peers);
    return timed(peers.sample, limiter.check, allowed);
  }
  for (let n = 0; n < size; n += 1) await limiter.consume(peers.key(n));
  return timedLater(peers.sample, limiter.consume, allowed);
}

/** Rounds over `items` in turn, of which each makes `checks` checks; all must be as `expected`. */
function timed<T>(items: T[], check: (item: T) => boolean, expected: boolean, checks = 1) {
  const batch = Math.ceil(BATCH / checks);
  let next = 0;
  let others = 0;
  const work = () => {
    for (let i = 0; i < batch; i += 1) {
      if (check(items[next] as T) !== expected) others += 1;
      next = next + 1 === items.length ? 0 : next + 1;
    }
  };
  return (): Round => {
    const ns = time(work, batch * checks);
    if (others > 0) throw new Error(`${others} checks were not as they should be`);
    return { figures: { ns } };
  };
}

function timedLater(keys: string[], consume: Consume, expected: boolean) {
  let next = 0;
  let others = 0;
  const work = async () => {
    for (let i = 0; i < BATCH; i += 1) {
      let allowed = true;
      try {
        await consume(keys[next] as string);
      } catch {
        allowed = false;
      }
      if (allowed !== expected) others += 1;
      next = next + 1 === keys.length ? 0 : next + 1;
    }
  };
  return async (): Promise<Round> => {
    const ns = await timeLater(work, BATCH);
    if (others > 0) throw new Error(`${others} checks were not as they should be`);
    return { figures: { ns } };
  };
}
