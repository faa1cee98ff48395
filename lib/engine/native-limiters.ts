// The native limiters, and tables of leases, as the engine interface has them: classes of the addon, and
// their raw functions as methods. Such a function is one for all objects of a class. Which one is meant,
// the cost and the time it reads from an array, where they cost a nanosecond; an argument costs four.

import type { SnapshotPeer } from '../common/types.js';
import { type DigestColumns, type OffenderColumns, offenderAt } from './columns.js';
import type {
  DirectConfig,
  DirectCore,
  Handle,
  LeaseTable,
  OrderbookConfig,
  OrderbookCore,
  RateLimiterConfig,
  RateLimiterCore,
  REFUSED,
  Refusal,
  SnapshotStep,
} from './engine.js';

/** The hash secret of a table: nobody outside can choose keys that collide. */
type Secret = BigUint64Array;

type CoreClass<Config, Core> = new (config: Config, secret: Secret, seat: Int32Array) => Core;

/** A step of a walk. */
interface Walked extends OffenderColumns {
  readonly secret: Uint32Array;
  readonly digests: Uint32Array;
  readonly digestNumbers: Float64Array;
  readonly isOver: boolean;
}

/** What a limiter of the addon has besides its core's methods. */
interface Native {
  readonly number: number;
  openWalk(): Handle;
  walk(handle: Handle, most: number, now?: number): Walked;
  restoreOffenders(keys: readonly string[], numbers: Float64Array, now?: number): number;
  putDigests(
    secret: Uint32Array,
    digests: Uint32Array,
    numbers: Float64Array,
    now?: number,
  ): number;
}

/** A class of the addon: `Calls` are its raw functions, the rest of `Core` are methods. */
type NativeClass<Config, Core, Calls> = Calls &
  CoreClass<Config, Omit<Core, keyof Calls | 'snapshot' | 'restore' | 'restoreDigests'> & Native>;

type LeaseTableClass = new (secret: Secret) => LeaseTable;

/** A method as a raw function: it is told cost and time otherwise. */
type Raw<Method> = Method extends (key: string, ...rest: never[]) => infer Answer
  ? (key: string) => Answer
  : (group: Handle, keys: readonly string[], verdicts: Uint8Array) => void;
type RawCalls<Core, Names extends keyof Core> = { readonly [Name in Names]: Raw<Core[Name]> };

/** Says what the next call of a raw function is about. Time left out: the limiter's own clock. */
type Tell = (object: number, cost: number | undefined, now: number | undefined) => void;

/** Raised when the exports or their calling convention change; native/binding/addon.cc has the same. */
export const ABI_VERSION = 6;

/** The exports of the addon; native/binding/addon.cc makes them. */
export interface Addon {
  readonly version: string;
  readonly abiVersion: number;
  /**
   * The arguments of the next call of a raw function: two doubles, the cost and the time or NaN, and an
   * object's number. It must never be detached, because the addon would still read its memory.
   */
  readonly callArguments: ArrayBuffer;
  readonly RateLimiter: NativeClass<
    RateLimiterConfig,
    RateLimiterCore,
    RawCalls<RateLimiterCore, 'check' | 'checkPeer' | 'checkGroup' | 'tokens'>
  >;
  readonly OrderbookLimiter: NativeClass<
    OrderbookConfig,
    OrderbookCore,
    RawCalls<OrderbookCore, 'check' | 'checkPeer' | 'isBanned'>
  >;
  readonly DirectLimiter: NativeClass<
    DirectConfig,
    DirectCore,
    RawCalls<
      DirectCore,
      | 'checkMessage'
      | 'checkPeer'
      | 'checkGroup'
      | 'checkOrderbook'
      | 'checkPeerOrderbook'
      | 'isBanned'
      | 'tokens'
    >
  >;
  readonly LeaseTable: Pick<LeaseTable, 'now'> &
    RawCalls<LeaseTable, 'spend'> &
    (new (
      secret: Secret,
    ) => Omit<LeaseTable, 'now' | 'spend'> & Pick<Native, 'number'>);
}

export interface NativeLimiters {
  readonly RateLimiter: CoreClass<RateLimiterConfig, RateLimiterCore>;
  readonly OrderbookLimiter: CoreClass<OrderbookConfig, OrderbookCore>;
  readonly DirectLimiter: CoreClass<DirectConfig, DirectCore>;
  readonly LeaseTable: LeaseTableClass;
}

export function nativeLimiters(addon: Addon): NativeLimiters {
  const doubles = new Float64Array(addon.callArguments, 0, 2);
  const numbers = new Int32Array(addon.callArguments, 16, 1);
  const tell: Tell = (object, cost = 1, now = Number.NaN) => {
    doubles[0] = cost;
    doubles[1] = now;
    numbers[0] = object;
  };
  return {
    RateLimiter: rateLimiter(addon, tell),
    OrderbookLimiter: orderbookLimiter(addon, tell),
    DirectLimiter: directLimiter(addon, tell),
    LeaseTable: leaseTable(addon, tell),
  };
}

function rateLimiter({ RateLimiter }: Addon, tell: Tell) {
  const { check, checkPeer, checkGroup, tokens } = RateLimiter;
  return class extends RateLimiter implements RateLimiterCore {
    readonly #number = this.number;

    check(key: string, cost?: number, now?: number): number | undefined {
      tell(this.#number, cost, now);
      return check(key);
    }

    checkPeer(key: string, cost?: number, now?: number): number | undefined {
      tell(this.#number, cost, now);
      return checkPeer(key);
    }

    checkGroup(
      group: Handle,
      keys: readonly string[],
      verdicts: Uint8Array,
      cost?: number,
      now?: number,
    ): void {
      tell(this.#number, cost, now);
      checkGroup(group, keys, verdicts);
    }

    snapshot(most: number, now: () => number | undefined): Iterable<SnapshotStep> {
      return stepsOf(this, most, now);
    }

    restore({ keys, numbers }: OffenderColumns, now?: number): number {
      return this.restoreOffenders(keys, numbers, now);
    }

    restoreDigests({ secret, digests, numbers }: DigestColumns, now?: number): number {
      return this.putDigests(secret, digests, numbers, now);
    }

    tokens(key: string): number {
      tell(this.#number, undefined, undefined);
      return tokens(key);
    }
  };
}

function orderbookLimiter({ OrderbookLimiter }: Addon, tell: Tell) {
  const { check, checkPeer, isBanned } = OrderbookLimiter;
  return class extends OrderbookLimiter implements OrderbookCore {
    readonly #number = this.number;

    check(key: string, now?: number): Refusal | undefined {
      tell(this.#number, undefined, now);
      return check(key);
    }

    checkPeer(key: string, now?: number): Refusal | undefined {
      tell(this.#number, undefined, now);
      return checkPeer(key);
    }

    isBanned(key: string, now?: number): boolean {
      tell(this.#number, undefined, now);
      return isBanned(key);
    }

    snapshot(most: number, now: () => number | undefined): Iterable<SnapshotStep> {
      return stepsOf(this, most, now);
    }

    restore({ keys, numbers }: OffenderColumns, now?: number): number {
      return this.restoreOffenders(keys, numbers, now);
    }

    restoreDigests({ secret, digests, numbers }: DigestColumns, now?: number): number {
      return this.putDigests(secret, digests, numbers, now);
    }
  };
}

function directLimiter({ DirectLimiter }: Addon, tell: Tell) {
  const { checkMessage, checkPeer, checkGroup, tokens } = DirectLimiter;
  const { checkOrderbook, checkPeerOrderbook, isBanned } = DirectLimiter;
  return class extends DirectLimiter implements DirectCore {
    readonly #number = this.number;

    checkMessage(key: string, cost?: number, now?: number): typeof REFUSED | undefined {
      tell(this.#number, cost, now);
      return checkMessage(key);
    }

    checkPeer(key: string, cost?: number, now?: number): typeof REFUSED | undefined {
      tell(this.#number, cost, now);
      return checkPeer(key);
    }

    checkGroup(
      group: Handle,
      keys: readonly string[],
      verdicts: Uint8Array,
      cost?: number,
      now?: number,
    ): void {
      tell(this.#number, cost, now);
      checkGroup(group, keys, verdicts);
    }

    tokens(key: string): number {
      tell(this.#number, undefined, undefined);
      return tokens(key);
    }

    checkOrderbook(key: string, now?: number): Refusal | undefined {
      tell(this.#number, undefined, now);
      return checkOrderbook(key);
    }

    checkPeerOrderbook(key: string, now?: number): Refusal | undefined {
      tell(this.#number, undefined, now);
      return checkPeerOrderbook(key);
    }

    isBanned(key: string, now?: number): boolean {
      tell(this.#number, undefined, now);
      return isBanned(key);
    }

    snapshot(most: number, now: () => number | undefined): Iterable<SnapshotStep> {
      return stepsOf(this, most, now);
    }

    restore({ keys, numbers }: OffenderColumns, now?: number): number {
      return this.restoreOffenders(keys, numbers, now);
    }

    restoreDigests({ secret, digests, numbers }: DigestColumns, now?: number): number {
      return this.putDigests(secret, digests, numbers, now);
    }
  };
}

function leaseTable({ LeaseTable }: Addon, tell: Tell): LeaseTableClass {
  const { spend, now } = LeaseTable;
  return class extends LeaseTable {
    readonly #number = this.number;

    now(): number {
      return now();
    }

    spend(key: string, cost: number, now?: number): typeof REFUSED | undefined {
      tell(this.#number, cost, now);
      return spend(key);
    }
  };
}

function* stepsOf(
  limiter: Native,
  most: number,
  now: () => number | undefined,
): Generator<SnapshotStep> {
  const handle = limiter.openWalk();
  for (let isOver = false; !isOver; ) {
    const step = limiter.walk(handle, most, now());
    isOver = step.isOver;
    const { secret, digests, digestNumbers: numbers } = step;
    yield { peers: peersOf(step), digests: { secret, digests, numbers } };
  }
}

function peersOf(offenders: OffenderColumns): SnapshotPeer[] {
  return offenders.keys.map((_, i) => offenderAt(offenders, i));
}
