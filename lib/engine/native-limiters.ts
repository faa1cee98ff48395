// The native limiters as the engine interface has them: classes of the addon, and their raw
// functions as methods. Such a function is one for all limiters of a class and told which by its
// number. Arguments left out are arguments it need not read, which is time.

import type {
  DirectConfig,
  DirectCore,
  Handle,
  OrderbookConfig,
  OrderbookCore,
  RateLimiterConfig,
  RateLimiterCore,
  REFUSED,
  Refusal,
} from './engine.js';

/** The hash secret of a table: nobody outside can choose keys that collide. */
type Secret = BigUint64Array;

type CoreClass<Config, Core> = new (config: Config, secret: Secret, seat: Int32Array) => Core;

/** A class of the addon: `Calls` are its raw functions, the rest of `Core` are methods. */
type NativeClass<Config, Core, Calls> = Calls &
  CoreClass<Config, Omit<Core, keyof Calls> & { readonly number: number }>;

/** A method as a raw function: a limiter's number before its arguments. */
type Raw<Method> = Method extends (...rest: infer Rest) => infer Answer
  ? (limiter: number, ...rest: Rest) => Answer
  : never;
type RawCalls<Core, Names extends keyof Core> = { readonly [Name in Names]: Raw<Core[Name]> };

/** The exports of the addon; native/binding/addon.cc makes them. */
export interface Addon {
  readonly version: string;
  readonly RateLimiter: NativeClass<
    RateLimiterConfig,
    RateLimiterCore,
    RawCalls<RateLimiterCore, 'check' | 'checkPeer' | 'checkGroup'>
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
    >
  >;
}

export interface NativeLimiters {
  readonly RateLimiter: CoreClass<RateLimiterConfig, RateLimiterCore>;
  readonly OrderbookLimiter: CoreClass<OrderbookConfig, OrderbookCore>;
  readonly DirectLimiter: CoreClass<DirectConfig, DirectCore>;
}

export function nativeLimiters(addon: Addon): NativeLimiters {
  return {
    RateLimiter: rateLimiter(addon),
    OrderbookLimiter: orderbookLimiter(addon),
    DirectLimiter: directLimiter(addon),
  };
}

function rateLimiter({ RateLimiter }: Addon) {
  const { check, checkPeer, checkGroup } = RateLimiter;
  return class extends RateLimiter implements RateLimiterCore {
    readonly #number = this.number;

    check(key: string, cost?: number, now?: number): number | undefined {
      return cost === undefined && now === undefined
        ? check(this.#number, key)
        : check(this.#number, key, cost, now);
    }

    checkPeer(key: string, cost?: number, now?: number): number | undefined {
      return cost === undefined && now === undefined
        ? checkPeer(this.#number, key)
        : checkPeer(this.#number, key, cost, now);
    }

    checkGroup(
      group: Handle,
      keys: readonly string[],
      verdicts: Uint8Array,
      cost?: number,
      now?: number,
    ): void {
      checkGroup(this.#number, group, keys, verdicts, cost, now);
    }
  };
}

function orderbookLimiter({ OrderbookLimiter }: Addon) {
  const { check, checkPeer, isBanned } = OrderbookLimiter;
  return class extends OrderbookLimiter implements OrderbookCore {
    readonly #number = this.number;

    check(key: string, now?: number): Refusal | undefined {
      return now === undefined ? check(this.#number, key) : check(this.#number, key, now);
    }

    checkPeer(key: string, now?: number): Refusal | undefined {
      return now === undefined ? checkPeer(this.#number, key) : checkPeer(this.#number, key, now);
    }

    isBanned(key: string, now?: number): boolean {
      return isBanned(this.#number, key, now);
    }
  };
}

function directLimiter({ DirectLimiter }: Addon) {
  const { checkMessage, checkPeer, checkGroup } = DirectLimiter;
  const { checkOrderbook, checkPeerOrderbook, isBanned } = DirectLimiter;
  return class extends DirectLimiter implements DirectCore {
    readonly #number = this.number;

    checkMessage(key: string, cost?: number, now?: number): typeof REFUSED | undefined {
      return cost === undefined && now === undefined
        ? checkMessage(this.#number, key)
        : checkMessage(this.#number, key, cost, now);
    }

    checkPeer(key: string, cost?: number, now?: number): typeof REFUSED | undefined {
      return cost === undefined && now === undefined
        ? checkPeer(this.#number, key)
        : checkPeer(this.#number, key, cost, now);
    }

    checkGroup(
      group: Handle,
      keys: readonly string[],
      verdicts: Uint8Array,
      cost?: number,
      now?: number,
    ): void {
      checkGroup(this.#number, group, keys, verdicts, cost, now);
    }

    checkOrderbook(key: string, now?: number): Refusal | undefined {
      return now === undefined
        ? checkOrderbook(this.#number, key)
        : checkOrderbook(this.#number, key, now);
    }

    checkPeerOrderbook(key: string, now?: number): Refusal | undefined {
      return now === undefined
        ? checkPeerOrderbook(this.#number, key)
        : checkPeerOrderbook(this.#number, key, now);
    }

    isBanned(key: string, now?: number): boolean {
      return isBanned(this.#number, key, now);
    }
  };
}
