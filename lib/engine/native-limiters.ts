// The native limiters and lease tables with the engine's interface: subclasses of the addon's classes, with the addon's
// raw functions as methods. A raw function is shared by all objects of a class. It reads the object's number, the cost
// and the time from an array, which takes a nanosecond; passing them as arguments takes four. It writes the delay of a
// refused check to that array too.

import type { SnapshotPeer } from '../common/types.js';
import { type DigestColumns, type OffenderColumns, offenderAt } from './columns.js';
import type {
  DirectConfig,
  DirectCore,
  Handle,
  LeaseTable,
  MaybeShared,
  OrderbookConfig,
  OrderbookCore,
  RateLimiterConfig,
  RateLimiterCore,
  REFUSED,
  Refusal,
  SharedFiles,
  SnapshotStep,
} from './engine.js';
import type { NativeRuleLimiter, NativeSharedRuleLimiter, WalkStep } from './native-rules.js';

/** The hash secret of a table. Without it an attacker cannot choose keys that collide. */
type Secret = BigUint64Array;

/** `path` is that of the file of a shared limiter, and `secret` that of a file which the limiter creates. */
type CoreClass<Config, Core> = new (
  config: Config,
  secret: Secret,
  slotBuffer: Int32Array,
  path?: string,
) => Core;

/** The members of an addon's limiter that are not in the engine's interface. */
interface NativeMembers {
  readonly number: number;
  openWalk(): Handle;
  walk(handle: Handle, most: number, now?: number): WalkStep;
  restoreOffenders(keys: readonly string[], numbers: Float64Array, now?: number): number;
  putDigests(
    secret: Uint32Array,
    digests: Uint32Array,
    numbers: Float64Array,
    now?: number,
  ): number;
}

/** A class of the addon. `Calls` are its raw functions; the rest of `Core` are its methods. */
type NativeClass<Config, Core, Calls> = Calls &
  CoreClass<
    Config,
    Omit<Core, keyof Calls | 'snapshot' | 'restore' | 'restoreDigests'> & NativeMembers
  >;

type LeaseTableClass = new (secret: Secret) => LeaseTable;

/** The raw function of a method. The cost and the time are not among its arguments. */
type Raw<Method> = Method extends (key: string, ...rest: never[]) => infer Answer
  ? (key: string) => Answer
  : (group: Handle, keys: readonly string[], verdicts: Uint8Array) => void;
type RawCalls<Core, Names extends keyof Core> = { readonly [Name in Names]: Raw<Core[Name]> };

/** Sets the arguments of the next call of a raw function. Without `now` the limiter reads its own clock. */
type SetArguments = (object: number, cost: number | undefined, now: number | undefined) => void;

/** A raw function of RateLimiter. After REFUSED the delay, or DISCONNECT, is in the call arguments. */
type DelayingCall = (key: string) => typeof REFUSED | undefined;

/** Increase this if the exports or their calling convention change, here and in native/binding/addon.cc. */
export const ABI_VERSION = 12;

/** The exports of the addon, as native/binding/addon.cc defines them. */
export interface Addon {
  readonly version: string;
  readonly abiVersion: number;
  /**
   * The arguments of the next call of a raw function: two doubles, the cost and the time or NaN, an object's
   * number, and for rule limiters the mask of the scopes and the program. Behind them, at byte 32, the delay of the
   * last refused check of a RateLimiter. It must never be detached, because the addon would still use its memory.
   */
  readonly callArguments: ArrayBuffer;
  readonly RateLimiter: NativeClass<
    RateLimiterConfig,
    RateLimiterCore,
    RawCalls<RateLimiterCore, 'checkGroup' | 'tokens' | 'refilledTokens'> & {
      readonly check: DelayingCall;
      readonly checkPeer: DelayingCall;
    }
  >;
  readonly OrderbookLimiter: NativeClass<
    OrderbookConfig,
    OrderbookCore,
    RawCalls<OrderbookCore, 'check' | 'checkPeer' | 'isBanned' | 'banSecondsLeft'>
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
      | 'banSecondsLeft'
      | 'tokens'
    >
  >;
  readonly LeaseTable: Pick<LeaseTable, 'now'> &
    RawCalls<LeaseTable, 'spend'> &
    (new (
      secret: Secret,
    ) => Omit<LeaseTable, 'now' | 'spend'> & Pick<NativeMembers, 'number'>);
  readonly RuleLimiter: NativeRuleLimiter;
  /** The classes of limiters in shared files have the members of the others, and those of SharedCore. */
  readonly SharedRateLimiter: Addon['RateLimiter'];
  readonly SharedOrderbookLimiter: Addon['OrderbookLimiter'];
  readonly SharedDirectLimiter: Addon['DirectLimiter'];
  readonly SharedRuleLimiter: NativeSharedRuleLimiter;
  readonly inspectShared: SharedFiles['inspect'];
  readonly removeShared: SharedFiles['remove'];
}

export interface NativeLimiters {
  readonly RateLimiter: CoreClass<RateLimiterConfig, RateLimiterCore>;
  readonly OrderbookLimiter: CoreClass<OrderbookConfig, OrderbookCore>;
  readonly DirectLimiter: CoreClass<DirectConfig, DirectCore>;
  readonly SharedRateLimiter: CoreClass<RateLimiterConfig, MaybeShared<RateLimiterCore>>;
  readonly SharedOrderbookLimiter: CoreClass<OrderbookConfig, MaybeShared<OrderbookCore>>;
  readonly SharedDirectLimiter: CoreClass<DirectConfig, MaybeShared<DirectCore>>;
  readonly LeaseTable: LeaseTableClass;
}

export function nativeLimiters(addon: Addon): NativeLimiters {
  const doubles = new Float64Array(addon.callArguments, 0, 2);
  const numbers = new Int32Array(addon.callArguments, 16, 1);
  const setArguments: SetArguments = (object, cost = 1, now = Number.NaN) => {
    doubles[0] = cost;
    doubles[1] = now;
    numbers[0] = object;
  };
  const delay = new Float64Array(addon.callArguments, 32, 1);
  return {
    RateLimiter: rateLimiter(addon.RateLimiter, setArguments, delay),
    OrderbookLimiter: orderbookLimiter(addon.OrderbookLimiter, setArguments),
    DirectLimiter: directLimiter(addon.DirectLimiter, setArguments),
    SharedRateLimiter: rateLimiter(addon.SharedRateLimiter, setArguments, delay),
    SharedOrderbookLimiter: orderbookLimiter(addon.SharedOrderbookLimiter, setArguments),
    SharedDirectLimiter: directLimiter(addon.SharedDirectLimiter, setArguments),
    LeaseTable: leaseTable(addon, setArguments),
  };
}

function rateLimiter(
  RateLimiter: Addon['RateLimiter'],
  setArguments: SetArguments,
  delay: Float64Array,
) {
  const { check, checkPeer, checkGroup, tokens, refilledTokens } = RateLimiter;
  return class extends withSnapshots(RateLimiter) implements RateLimiterCore {
    readonly #number = this.number;

    check(key: string, cost?: number, now?: number): number | undefined {
      setArguments(this.#number, cost, now);
      return check(key) === undefined ? undefined : delay[0];
    }

    checkPeer(key: string, cost?: number, now?: number): number | undefined {
      setArguments(this.#number, cost, now);
      return checkPeer(key) === undefined ? undefined : delay[0];
    }

    checkGroup(
      group: Handle,
      keys: readonly string[],
      verdicts: Uint8Array,
      cost?: number,
      now?: number,
    ): void {
      setArguments(this.#number, cost, now);
      checkGroup(group, keys, verdicts);
    }

    tokens(key: string): number {
      setArguments(this.#number, undefined, undefined);
      return tokens(key);
    }

    refilledTokens(key: string, now?: number): number {
      setArguments(this.#number, undefined, now);
      return refilledTokens(key);
    }
  };
}

function orderbookLimiter(OrderbookLimiter: Addon['OrderbookLimiter'], setArguments: SetArguments) {
  const { check, checkPeer, isBanned, banSecondsLeft } = OrderbookLimiter;
  return class extends withSnapshots(OrderbookLimiter) implements OrderbookCore {
    readonly #number = this.number;

    check(key: string, now?: number): Refusal | undefined {
      setArguments(this.#number, undefined, now);
      return check(key);
    }

    checkPeer(key: string, now?: number): Refusal | undefined {
      setArguments(this.#number, undefined, now);
      return checkPeer(key);
    }

    isBanned(key: string, now?: number): boolean {
      setArguments(this.#number, undefined, now);
      return isBanned(key);
    }

    banSecondsLeft(key: string, now?: number): number {
      setArguments(this.#number, undefined, now);
      return banSecondsLeft(key);
    }
  };
}

function directLimiter(DirectLimiter: Addon['DirectLimiter'], setArguments: SetArguments) {
  const { checkMessage, checkPeer, checkGroup, tokens } = DirectLimiter;
  const { checkOrderbook, checkPeerOrderbook, isBanned, banSecondsLeft } = DirectLimiter;
  return class extends withSnapshots(DirectLimiter) implements DirectCore {
    readonly #number = this.number;

    checkMessage(key: string, cost?: number, now?: number): typeof REFUSED | undefined {
      setArguments(this.#number, cost, now);
      return checkMessage(key);
    }

    checkPeer(key: string, cost?: number, now?: number): typeof REFUSED | undefined {
      setArguments(this.#number, cost, now);
      return checkPeer(key);
    }

    checkGroup(
      group: Handle,
      keys: readonly string[],
      verdicts: Uint8Array,
      cost?: number,
      now?: number,
    ): void {
      setArguments(this.#number, cost, now);
      checkGroup(group, keys, verdicts);
    }

    tokens(key: string): number {
      setArguments(this.#number, undefined, undefined);
      return tokens(key);
    }

    checkOrderbook(key: string, now?: number): Refusal | undefined {
      setArguments(this.#number, undefined, now);
      return checkOrderbook(key);
    }

    checkPeerOrderbook(key: string, now?: number): Refusal | undefined {
      setArguments(this.#number, undefined, now);
      return checkPeerOrderbook(key);
    }

    isBanned(key: string, now?: number): boolean {
      setArguments(this.#number, undefined, now);
      return isBanned(key);
    }

    banSecondsLeft(key: string, now?: number): number {
      setArguments(this.#number, undefined, now);
      return banSecondsLeft(key);
    }
  };
}

function leaseTable({ LeaseTable }: Addon, setArguments: SetArguments): LeaseTableClass {
  const { spend, now } = LeaseTable;
  return class extends LeaseTable {
    readonly #number = this.number;

    now(): number {
      return now();
    }

    spend(key: string, cost: number, now?: number): typeof REFUSED | undefined {
      setArguments(this.#number, cost, now);
      return spend(key);
    }
  };
}

// biome-ignore lint/suspicious/noExplicitAny: TypeScript requires these parameters of a mixin's base class.
type Constructor<Instance> = new (...args: any[]) => Instance;

/** Adds the methods for snapshots, which are the same for all limiters, to a class of the addon. */
function withSnapshots<Base extends Constructor<NativeMembers>>(Limiter: Base) {
  return class extends Limiter {
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

function* stepsOf(
  limiter: NativeMembers,
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
