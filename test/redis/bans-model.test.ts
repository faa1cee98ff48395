// Bans of several processes in virtual time, with a network that delays and loses, a store that loses its data, comes back
// with an older state or has its clock set, and processes that are cut off or start later. A ban ends by its time or by a
// lift that was made after it, and by nothing else; in the end all processes know the same.

import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { SharedBans } from '../../lib/redis/index.js';
import { type Random, seeded } from '../support/random.js';
import { runs } from '../support/runs.js';
import { SimulatedBans } from './support/simulated-bans.js';
import { VirtualTime } from './support/virtual-time.js';

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

interface Fleet {
  seed: number;
  /** The longest time that a message takes in one direction, in seconds. */
  latency: number;
  /** The share of calls, replies and messages to subscribers that are lost. */
  loss: number;
  /** How often something happens to the store or to a process, in a minute. */
  troubles: number;
  seconds: number;
}

const PROCESSES = 3;
const KEYS = ['p', 'q', 'r', 's', 't', 'u', 'v', 'w'];
/** Changes of one peer are at least so far apart: more than the processes' views of the time differ. */
const APART_SECONDS = 1;
/** Longer than a process is cut off, and than it takes until its next look. */
const STORE_TROUBLE_SECONDS = 30;
/** By how much the end of a ban may differ between processes. */
const NEAR_SECONDS = 0.5;

interface Change {
  at: number;
  /** When the ban ends; undefined for a lift. */
  ends: number | undefined;
}

/** A process and its network. */
class Member {
  readonly bans: SharedBans;
  /** Ends the subscription, as a lost connection does. */
  resubscribe: () => void = () => {};
  isCutOff = false;
  /** When the bans of each peer end, as seen last. */
  readonly seen = new Map<string, number>();

  constructor(create: (member: Member) => SharedBans) {
    this.bans = create(this);
  }
}

class Model {
  readonly time = new VirtualTime();
  readonly #fleet: Fleet;
  readonly #random: Random;
  readonly #members: Member[] = [];
  readonly #listeners = new Map<Member, (message: string) => void>();
  readonly #changes = new Map<string, Change[]>(KEYS.map((key) => [key, []]));
  readonly #store: SimulatedBans;
  #clockAhead = 1.7e9;
  #isHealed = false;
  #lastStoreTrouble = Number.NEGATIVE_INFINITY;

  constructor(fleet: Fleet) {
    this.#fleet = fleet;
    this.#random = seeded(fleet.seed);
    this.time.install();
    this.#store = new SimulatedBans(
      () => this.time.now + this.#clockAhead,
      (message) => {
        for (const [member, listener] of this.#listeners) {
          this.#deliver(member, () => listener(message));
        }
      },
    );
  }

  async run(): Promise<void> {
    for (let n = 0; n < PROCESSES; n += 1) this.#members.push(this.#start());
    const hasStarted = () => this.#members.every(({ bans }) => bans.getStats().state === 'up');
    while (!hasStarted()) await this.#step();
    const { seconds, troubles } = this.#fleet;
    const end = this.time.now + seconds;
    let isOlder: (() => void) | undefined;
    while (this.time.now < end) {
      await this.#step();
      if (this.#random() < 0.06) this.#change();
      if (this.#random() < 0.05) isOlder = this.#store.snapshot();
      if (this.#random() * 600 < troubles) this.#trouble(isOlder);
    }
    this.#isHealed = true;
    for (const member of this.#members) member.isCutOff = false;
    for (const member of this.#members) member.resubscribe();
    for (let n = 0; n < 300; n += 1) await this.#step();
    this.#members.push(this.#start());
    for (let n = 0; n < 100; n += 1) await this.#step();
    for (const key of KEYS) this.#expectEnd(key);
  }

  /** Lets a tenth of a second pass and looks at what all processes know. */
  async #step(): Promise<void> {
    await this.time.run(0.1);
    for (const member of this.#members) {
      for (const key of KEYS) this.#look(member, key);
    }
  }

  /** No process loses a ban, or knows one that nobody made. */
  #look({ bans, seen }: Member, key: string): void {
    const { now } = this.time;
    const left = bans.banSecondsLeft(key);
    const ends = left > 0 ? now + left : 0;
    const before = seen.get(key) ?? 0;
    const changes = this.#changes.get(key) as Change[];
    if (before > now + NEAR_SECONDS && ends < before - NEAR_SECONDS) {
      // The first of the bans that end then, by chance, together.
      const ban = changes.find((change) => isNear(change.ends, before)) as Change;
      const wasLifted = changes.some((change) => change.ends === undefined && change.at > ban.at);
      expect(wasLifted, `the ban of ${key} until ${before} ended at ${now}`).toBe(true);
    }
    if (ends > 0) {
      const made = changes.map((change) => change.ends);
      expect(
        made.some((one) => isNear(one, ends)),
        `${key} until ${ends}, of ${made}`,
      ).toBe(true);
    }
    seen.set(key, ends);
  }

  #change(): void {
    const key = this.#random.pick(KEYS);
    const changes = this.#changes.get(key) as Change[];
    const { now } = this.time;
    if (now - (changes.at(-1)?.at ?? Number.NEGATIVE_INFINITY) < APART_SECONDS) return;
    const { bans } = this.#random.pick(this.#members);
    if (this.#random() < 0.35) {
      bans.lift(key);
      changes.push({ at: now, ends: undefined });
    } else {
      const seconds = 5 + this.#random() * 300;
      bans.ban(key, seconds);
      changes.push({ at: now, ends: now + seconds });
    }
    for (const member of this.#members) if (member.bans === bans) this.#look(member, key);
  }

  /** Two things happen to the store only so far apart that processes have looked at it in between. */
  #storeTrouble(act: () => void): void {
    if (this.time.now - this.#lastStoreTrouble < STORE_TROUBLE_SECONDS) return;
    this.#lastStoreTrouble = this.time.now;
    act();
  }

  #trouble(goBack: (() => void) | undefined): void {
    const member = this.#random.pick(this.#members);
    this.#random.pick([
      () => this.#storeTrouble(() => this.#store.flush()),
      () => this.#storeTrouble(() => goBack?.()),
      () =>
        this.#storeTrouble(() => {
          this.#clockAhead += this.#random.pick([-3600, 3600, -20, 20]);
        }),
      () => member.resubscribe(),
      () => {
        member.isCutOff = true;
        this.time.after(this.#random() * 20, () => {
          member.isCutOff = false;
          member.resubscribe();
        });
      },
    ])();
  }

  /** All know the same: the bans that were made after the last lift. */
  #expectEnd(key: string): void {
    const changes = this.#changes.get(key) as Change[];
    const lifted = changes.filter(({ ends }) => ends === undefined).at(-1)?.at ?? 0;
    const ends = changes.filter(({ at }) => at > lifted).map((change) => change.ends as number);
    const left = Math.max(0, ...ends.map((end) => end - this.time.now));
    for (const { bans } of this.#members) {
      expect(Math.abs(bans.banSecondsLeft(key) - left)).toBeLessThanOrEqual(NEAR_SECONDS);
    }
    expect(Math.abs(this.#store.secondsLeft(key) - left)).toBeLessThanOrEqual(NEAR_SECONDS);
  }

  #start(): Member {
    return new Member((member) => {
      return new SharedBans({
        client: this.#clientOf(member),
        clock: () => this.time.now,
        deadlineSeconds: 0.5,
      });
    });
  }

  #clientOf(member: Member): object {
    const noop = () => {};
    const connection = { on: noop, off: noop, connect: async () => {}, destroy: noop };
    return {
      ...connection,
      evalSha: async () => {
        throw new Error('NOSCRIPT No matching script.');
      },
      eval: (text: string, { arguments: args }: { arguments: string[] }) =>
        new Promise((resolve, reject) => {
          const cut = () => reject(new Error('Socket closed unexpectedly'));
          const answer = () => {
            const reply = this.#store.eval(text, args);
            this.#deliver(member, () => resolve(reply), cut);
          };
          this.#deliver(member, answer, cut);
        }),
      duplicate: () => {
        let onReady = noop;
        return {
          ...connection,
          on: (event: string, listener: () => void) => {
            if (event === 'ready') onReady = listener;
          },
          destroy: () => this.#listeners.delete(member),
          subscribe: async (_: string, listener: (message: string) => void) => {
            this.#listeners.set(member, listener);
            member.resubscribe = () => onReady();
          },
        };
      },
    };
  }

  /** Delivers something in order of chance, or loses it: `lost` is called then. */
  #deliver(member: Member, arrive: () => void, lost = () => {}): void {
    const { latency, loss } = this.#fleet;
    const isLost = !this.#isHealed && (member.isCutOff || this.#random() < loss);
    this.time.after(this.#random() * latency, isLost ? lost : arrive);
  }
}

function isNear(one: number | undefined, other: number): boolean {
  return one !== undefined && Math.abs(one - other) <= NEAR_SECONDS;
}

/** Evenly spread. `fc.double` would nearly always be close to 0. */
const number = (min: number, max: number) =>
  fc.integer({ min: 0, max: 1000 }).map((n) => min + ((max - min) * n) / 1000);
const anyFleet: fc.Arbitrary<Fleet> = fc.record({
  seed: fc.nat(),
  latency: number(0, 0.1),
  loss: fc.oneof(fc.constant(0), number(0, 0.3)),
  troubles: number(0, 20),
  seconds: number(20, 120),
});

describe('SharedBans', () => {
  it('end a ban by its time or by a lift made after it, and by nothing else', async () => {
    await fc.assert(
      fc.asyncProperty(anyFleet, (fleet) => new Model(fleet).run()),
      runs(12),
    );
  });
});
