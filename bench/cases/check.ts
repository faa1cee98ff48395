// The cost of a check: by key, of opened peers, of groups.

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

// A burst that no measurement uses up.
const LARGE_BURST = 1e9;
// Checks per piece of work: enough that the loop around them costs almost nothing.
const BATCH = 1_000;

const METRICS: readonly Metric[] = [{ name: 'ns', unit: 'ns', label: 'per check' }];
const COMMON = { rounds: 7, fresh: false, metrics: METRICS } as const;

// Members of all groups together. The groups are checked one after the other, so that no member is still in a cache from
// its last check.
const MAX_MEMBERS = 1_000_000;
// Verdicts of a group.
const ALLOW = 0;
const DELAY = 1;
const NO_VERDICT = 9;

// The records take 4 GB, and the temporary keys some more.
const HUNDRED_MILLION = 100_000_000;
const ROOM_FOR_THEM = 10e9;

const byKey = {
  ...COMMON,
  // The limiters of other packages would need many gigabytes for ten million peers.
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
  prepare: (contestant, size) => checkByKey(contestant, size, LARGE_BURST),
};

export const refused: Case = {
  ...byKey,
  name: 'refused',
  title: 'check by key, refused',
  sizes: SIZES,
  prepare: (contestant, size) => checkByKey(contestant, size, 1),
};

export const opened = ofOpened('opened', 'check of an opened peer (the Map: by key)', LARGE_BURST);
export const refusedOpened = ofOpened(
  'refused-opened',
  'check of an opened peer, refused (the Map: by key)',
  1,
);

export const groups = [64, 1_024, 50_000].map((members) =>
  ofGroups(
    `group-${members}`,
    `check in a group of ${members.toLocaleString('en')}, per member (the Map: by key)`,
    members,
    LARGE_BURST,
  ),
);
export const refusedGroups = [64, 1_024].map((members) =>
  ofGroups(
    `refused-group-${members}`,
    `check in a group of ${members.toLocaleString('en')}, refused, per member (the Map: by key)`,
    members,
    1,
  ),
);

/** Every check is allowed, or with a burst of 1 refused. */
function ofOpened(name: string, title: string, burst: number): Case {
  return {
    ...COMMON,
    name,
    title,
    sizes: SIZES,
    contestants: () => COMPLETE,
    prepare: async (contestant, size) => {
      if (!isOurs(contestant)) return checkByKey(contestant, size, burst);
      proveOurs(contestant);
      const peers = new Peers(size);
      const limiter = ours(contestant, burst);
      fill(limiter, peers);
      // Opened in another order than they are checked: real peers arrive one by one, over hours.
      const opened = shuffled(peers.sample.map((key) => limiter.open(key)));
      // The first check of an opened peer looks up its key. The case `allowed` measures that.
      for (const peer of opened) peer.check();
      return timed(opened, (peer) => allows(peer.check()), burst === LARGE_BURST);
    },
  };
}

/** Every member's check is allowed, or with a burst of 1 refused. */
function ofGroups(name: string, title: string, members: number, burst: number): Case {
  return {
    ...COMMON,
    name,
    title,
    // A group of 1,000 peers is close enough to one of 1,024.
    sizes: SIZES.filter((size) => size * 1.1 > members),
    contestants: () => COMPLETE,
    prepare: async (contestant, size) => {
      if (!isOurs(contestant)) return checkByKey(contestant, size, burst, MAX_MEMBERS);
      proveOurs(contestant);
      const peers = new Peers(size, MAX_MEMBERS);
      const limiter = ours(contestant, burst);
      fill(limiter, peers);
      const groups: ReturnType<typeof limiter.group>[] = [];
      const each = Math.min(members, peers.sample.length);
      for (let from = 0; from + each <= peers.sample.length; from += each) {
        groups.push(limiter.group(peers.sample.slice(from, from + each)));
      }
      const verdicts = new Uint8Array(each);
      const expected = burst === LARGE_BURST ? ALLOW : DELAY;
      // Every member's verdict must be written, and must be the expected one.
      for (const group of groups) {
        if (group.check(1, verdicts.fill(NO_VERDICT)).some((verdict) => verdict !== expected)) {
          throw new Error('a member of a group has another verdict than expected');
        }
      }
      const last = each - 1;
      return timed(groups, (group) => group.check(1, verdicts)[last] === expected, true, each);
    },
  };
}

async function checkByKey(contestant: string, size: number, burst: number, most?: number) {
  if (size === HUNDRED_MILLION && freemem() < ROOM_FOR_THEM) throw new Error('too little memory');
  const peers = new Peers(size, most);
  const limiter = await subject(contestant, { burst, peers: size });
  const allowed = burst === LARGE_BURST || contestant === FLOOR;
  if (limiter.answers === 'at once') {
    fill(limiter, peers);
    return timed(peers.sample, limiter.check, allowed);
  }
  for (let n = 0; n < size; n += 1) await limiter.consume(peers.key(n));
  return timedLater(peers.sample, limiter.consume, allowed);
}

/** Returns a function that runs one round over `items`, with `checks` checks each; every result must be `expected`. */
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
