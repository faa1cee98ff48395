// The native rule limiter with the engine's interface: a subclass of the addon's class, with the addon's raw functions
// as methods. See native-limiters.ts for why.

import type { OffenderColumns } from './columns.js';
import type { Handle, SharedCore } from './engine.js';
import {
  RULE_NUMBERS,
  RULE_SLOTS,
  type RuleAnswer,
  type RuleDigestColumns,
  type RuleKeys,
  type RuleOffenderColumns,
  type RuleScopeStatistics,
  type RuleSnapshotStep,
  type RulesConfig,
  type RulesCore,
  type RuleTotals,
  type SharedRulesCore,
} from './rules.js';

/** The result of the addon's checkPeer if it needs the keys: nothing has changed, and `checkAndOpen` decides. */
const NEEDS_KEYS = 5;

type Secret = BigUint64Array;
type KeyArguments = (string | undefined)[];

/** The result of one step of a snapshot's walk. */
export interface WalkStep extends OffenderColumns {
  readonly secret: Uint32Array;
  readonly digests: Uint32Array;
  readonly digestNumbers: Float64Array;
  readonly isOver: boolean;
}

type RawCalls = 'check' | 'checkPeer' | 'refund' | 'charge' | 'look' | 'open';
type Subclassed = 'statistics' | 'snapshot' | 'restore' | 'adopt' | 'restoreDigests';

interface Walks {
  openWalk(scope: number): Handle;
  walk(handle: Handle, most: number, now?: number): WalkStep;
}

/** The methods of the addon's class. */
interface NativeRules extends Omit<RulesCore, RawCalls | Subclassed | 'secretVersion'>, Walks {
  readonly number: number;
  statistics(scope: number): RuleScopeStatistics;
  restoreOffenders(
    scope: number,
    keys: readonly string[],
    numbers: Float64Array,
    now?: number,
  ): number;
  /** Replaces the secret if there are no peers and it is another one. Returns whether it has done so. */
  changeSecret(secret: Uint32Array): boolean;
  putDigests(
    scope: number,
    secret: Uint32Array,
    digests: Uint32Array,
    numbers: Float64Array,
    now?: number,
  ): number;
}

/** The addon's class. Its raw functions get a key for each scope as arguments; the rest comes from `callArguments`. */
export interface NativeRuleLimiter {
  new (config: RulesConfig, secret: Secret, numbers: Float64Array, slots: Int32Array): NativeRules;
  readonly check: (...keys: KeyArguments) => RuleAnswer | undefined;
  /** The same, and writes RULE_SLOTS. */
  readonly checkAndOpen: (...keys: KeyArguments) => RuleAnswer | undefined;
  readonly checkPeer: () => RuleAnswer | typeof NEEDS_KEYS | undefined;
  readonly refund: (...keys: KeyArguments) => undefined;
  readonly charge: (...keys: KeyArguments) => undefined;
  readonly look: (...keys: KeyArguments) => RuleAnswer | undefined;
  readonly open: (...keys: KeyArguments) => undefined;
}

/** The addon's class for a limiter in a shared file: it has `publish` in place of `update`. */
export type NativeSharedRuleLimiter = NativeRuleLimiter &
  (new (
    ...args: ConstructorParameters<NativeRuleLimiter>
  ) => NativeRules & SharedRulesCore & SharedCore);

export function nativeRuleLimiter(
  callArguments: ArrayBuffer,
  RuleLimiter: NativeRuleLimiter,
): new (
  config: RulesConfig,
  secret: Secret,
) => RulesCore {
  const time = new Float64Array(callArguments, 8, 1);
  const numbers = new Int32Array(callArguments, 16, 3);
  const setArguments = (object: number, mask: number, program: number, now = Number.NaN) => {
    time[0] = now;
    numbers[0] = object;
    numbers[1] = mask;
    numbers[2] = program;
  };
  const { check, checkAndOpen, checkPeer, refund, charge, open, look } = RuleLimiter;
  return class extends RuleLimiter implements RulesCore {
    readonly #number = this.number;
    readonly #single: readonly boolean[];
    secretVersion = 0;

    constructor(config: RulesConfig, secret: Secret) {
      super(config, secret, RULE_NUMBERS, RULE_SLOTS);
      this.#single = config.single.slice();
    }

    check(keys: RuleKeys, mask: number, program: number, now?: number): RuleAnswer | undefined {
      setArguments(this.#number, mask, program, now);
      // Not by call(): V8 predicts the callee only where it is always the same.
      switch (keys.length) {
        case 1:
          return check(keys[0]);
        case 2:
          return check(keys[0], keys[1]);
        case 3:
          return check(keys[0], keys[1], keys[2]);
        default:
          return check(...keys);
      }
    }

    open(keys: RuleKeys, mask: number): void {
      setArguments(this.#number, mask, 0);
      open(...keys);
    }

    checkPeer(keys: RuleKeys, mask: number, program: number, now?: number): RuleAnswer | undefined {
      setArguments(this.#number, mask, program, now);
      const answer = checkPeer();
      return answer === NEEDS_KEYS ? checkAndOpen(...keys) : answer;
    }

    refund(keys: RuleKeys, mask: number, program: number, now?: number): void {
      setArguments(this.#number, mask, program, now);
      refund(...keys);
    }

    charge(keys: RuleKeys, mask: number, program: number, now?: number): void {
      setArguments(this.#number, mask, program, now);
      charge(...keys);
    }

    look(keys: RuleKeys, mask: number, program: number, now?: number): RuleAnswer | undefined {
      setArguments(this.#number, mask, program, now);
      switch (keys.length) {
        case 1:
          return look(keys[0]);
        case 2:
          return look(keys[0], keys[1]);
        case 3:
          return look(keys[0], keys[1], keys[2]);
        default:
          return look(...keys);
      }
    }

    override statistics(scope: number): RuleScopeStatistics {
      return this.#single[scope] === true ? withoutRecords() : super.statistics(scope);
    }

    *snapshot(
      scope: number,
      most: number,
      now: () => number | undefined,
    ): Generator<RuleSnapshotStep> {
      const handle = this.openWalk(scope);
      for (let isOver = false; !isOver; ) {
        const step = this.walk(handle, most, now());
        isOver = step.isOver;
        const { keys, numbers, secret, digests, digestNumbers } = step;
        yield {
          offenders: { keys, numbers },
          digests: { secret, digests, numbers: digestNumbers },
        };
      }
    }

    restore(scope: number, { keys, numbers }: RuleOffenderColumns, now?: number): number {
      return this.restoreOffenders(scope, keys, numbers, now);
    }

    adopt(secret: Uint32Array): void {
      if (this.changeSecret(secret)) this.secretVersion += 1;
    }

    restoreDigests(scope: number, digests: RuleDigestColumns, now?: number): number {
      return this.putDigests(scope, digests.secret, digests.digests, digests.numbers, now);
    }
  };
}

/**
 * The same in a shared file. Calls whose arguments do not depend on the rules adopt those of another process themselves;
 * SharedRulesCore says which others there are.
 */
export function nativeSharedRuleLimiter(
  callArguments: ArrayBuffer,
  SharedRuleLimiter: NativeSharedRuleLimiter,
): new (
  config: RulesConfig,
  secret: Secret,
) => RulesCore & SharedRulesCore & SharedCore {
  const Base = nativeRuleLimiter(callArguments, SharedRuleLimiter) as new (
    config: RulesConfig,
    secret: Secret,
  ) => RulesCore & SharedRulesCore & SharedCore & Walks;
  return class extends Base {
    readonly #adopt: (attempt: number) => void;

    constructor(config: RulesConfig, secret: Secret) {
      super(config, secret);
      this.#adopt = config.shared?.adopt as (attempt: number) => void;
    }

    override ban(scope: number, key: string, seconds: number, now?: number): boolean {
      return this.#current(() => super.ban(scope, key, seconds, now));
    }

    override cleanup(maxIdle: number, budgetMs: number, now?: number): number {
      let removed = 0;
      this.#current(() => {
        removed += super.cleanup(maxIdle, budgetMs, now);
      });
      return removed;
    }

    override totals(): RuleTotals {
      return this.#current(() => super.totals());
    }

    override walk(handle: Handle, most: number, now?: number): WalkStep {
      return this.#current(() => super.walk(handle, most, now));
    }

    override saveSingle(scope: number, now?: number): Float64Array {
      return this.#current(() => super.saveSingle(scope, now));
    }

    /** Repeats a call until it has been done by the current rules. */
    #current<Result>(call: () => Result): Result {
      for (let attempt = 0; ; attempt += 1) {
        const result = call();
        if (!this.takeOutdated()) return result;
        this.#adopt(attempt);
      }
    }
  };
}

/** The statistics of a single scope. */
function withoutRecords(): RuleScopeStatistics {
  return {
    peers: 0,
    totalViolations: 0,
    unnamedOffenders: 0,
    topViolators: [],
    bansBegun: 0,
    evictions: 0,
    lossyEvictions: 0,
    refusedNewcomers: 0,
  };
}
