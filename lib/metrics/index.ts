// relay-limiter/metrics: exports the statistics of limiters as prom-client metrics. They are read at each
// scrape; nothing runs between scrapes. The user passes in the prom-client module; this file imports only its types.

import type {
  Counter,
  CounterConfiguration,
  Gauge,
  GaugeConfiguration,
  Registry,
} from 'prom-client';
import { invalidValue } from '../common/errors.js';
import { readOptions } from '../common/options.js';
import { type NamedGuards, namedGuards } from '../guard/guard-stats.js';
import { ifKnown } from '../limiters/stats.js';
import { isRules, type NamedLimiters, namedLimiters } from '../rules/observable.js';
import type { Definition, Definitions, Value } from './definitions.js';
import { GUARDS, guardStats } from './guards.js';
import { CHECKS, type Labeled, RULES, readLimiter, TABLES } from './limiters.js';
import {
  BANS,
  bansStats,
  LIMITS,
  limitStats,
  type NamedShared,
  namedShared,
  type WatchedShared,
} from './shared.js';

export type {
  CountsByReason,
  GuardStats,
  NamedGuards,
  ObservableGuard as WatchedGuard,
} from '../guard/guard-stats.js';
export type { ObservableLimiter as WatchedLimiter } from '../limiters/stats.js';
export type { NamedLimiters, ObservableRules as WatchedRules } from '../rules/observable.js';
export type {
  NamedShared,
  SharedBanFigures,
  SharedFigures,
  SharedLimitFigures,
  WatchedShared,
} from './shared.js';

/** The part of the module prom-client that `collectMetrics` uses. */
export interface PromClient {
  readonly Counter: new <T extends string>(configuration: CounterConfiguration<T>) => Counter<T>;
  readonly Gauge: new <T extends string>(configuration: GaugeConfiguration<T>) => Gauge<T>;
  readonly register: Registry;
}

/** The options of `collectMetrics`. */
export interface MetricsOptions {
  /** The module prom-client, version 15 or later. You pass it in so that the process has only one copy of it. */
  client: PromClient;
  /**
   * The limiters, also RuleLimiters, by the value of their label `limiter`. At least one, unless `shared` or `guards` are
   * given.
   */
  limiters?: NamedLimiters | undefined;
  /** Instances of `SharedRateLimiter` and `SharedBans` (relay-limiter/redis), by the value of their label `limiter`. */
  shared?: NamedShared | undefined;
  /** Guards of relay-limiter/ws and relay-limiter/net, by the value of their label `guard`. */
  guards?: NamedGuards | undefined;
  /** The registry for the metrics. Default: prom-client's default registry, `client.register`. */
  register?: Registry | undefined;
  /** The prefix of all metric names. Default `relay_limiter_`. */
  prefix?: string | undefined;
}

/** The registered metrics of one call of `collectMetrics`. */
export interface Collection {
  /** Removes the metrics from the registry. Another call does nothing. */
  stop(): void;
}

const OPTIONS = ['client', 'limiters', 'shared', 'guards', 'register', 'prefix'];
const PREFIX = 'relay_limiter_';

/** The configuration that counters and gauges share. */
interface Common {
  name: string;
  help: string;
  labelNames: string[];
  registers: Registry[];
}

/**
 * Registers metrics of limiters with prom-client. Each scrape reads the limiters once; between scrapes the metrics
 * cost nothing, so checks are as fast as without them.
 *
 * Metrics of each limiter: `checks_total`, `bans_total`, `evictions_total`, `refused_newcomers_total`,
 * `tracked_peers`, `banned_peers`, `violations` and `table_bytes`. A scrape omits a limiter if its clock throws.
 * A RuleLimiter has all but the first of these by scope, `checks_total` by outcome, and by rule `rule_checks_total`,
 * `rule_refused_total` and `rule_dry_run_refused_total`. No label is a key: there are as many series as rules and scopes.
 * The objects of `shared` and `guards` have metrics of their own; docs/observability.md lists them.
 * @throws `ERR_LIMITER_OPTION` for an invalid option; prom-client's error for a metric name that is registered
 * already. After an error no metric is registered.
 * @example
 * import client from 'prom-client';
 * import { RateLimiter } from 'relay-limiter';
 * import { collectMetrics } from 'relay-limiter/metrics';
 *
 * const messages = new RateLimiter();
 * const collection = collectMetrics({ client, limiters: { messages } });
 * messages.check('peer-1');
 * console.log(await client.register.metrics());
 * collection.stop();
 */
export function collectMetrics(options: MetricsOptions): Collection {
  const given = readOptions('collectMetrics', options, OPTIONS);
  const client = promClient(given['client']);
  const register = registry(given['register'] ?? client.register);
  const shared = namedShared(given['shared']);
  const guards = namedGuards(given['guards']);
  const hasOthers = shared.length > 0 || guards.length > 0;
  const hasLimiters = given['limiters'] !== undefined || !hasOthers;
  const limiters = hasLimiters ? namedLimiters(given['limiters']) : [];
  const prefix = prefixOf(given['prefix']);
  const collector = new Collector(client, register, prefix);
  const read = oncePerScrape(() => limiters.flatMap((limiter) => readLimiter(limiter) ?? []));
  try {
    if (limiters.length > 0) {
      collector.add(CHECKS, () => read().flatMap(({ checks }) => checks));
      collector.add(TABLES, () => read().flatMap(({ tables }) => tables));
    }
    if (limiters.some(([, limiter]) => isRules(limiter))) {
      collector.add(RULES, () => read().flatMap(({ rules }) => rules));
    }
    if (shared.length > 0) {
      collector.add(LIMITS, sharedReader(shared, limitStats));
      collector.add(BANS, sharedReader(shared, bansStats));
    }
    if (guards.length > 0) {
      collector.add(
        GUARDS,
        oncePerScrape(() => guardStats(guards)),
        'guard',
      );
    }
  } catch (error) {
    collector.stop();
    throw error;
  }
  return { stop: () => collector.stop() };
}

/** Reads the statistics of all watched objects, with their labels. */
type Reader<Stats> = () => readonly Labeled<Stats>[];
type ValueReader = () => Value[];

class Collector {
  readonly #client: PromClient;
  readonly #register: Registry;
  readonly #prefix: string;
  readonly #removals: (() => void)[] = [];

  constructor(client: PromClient, register: Registry, prefix: string) {
    this.#client = client;
    this.#register = register;
    this.#prefix = prefix;
  }

  /** `label`: the label with the name of the object. */
  add<Stats>(
    { counters, gauges }: Definitions<Stats>,
    read: Reader<Stats>,
    label = 'limiter',
  ): void {
    const values = (definition: Definition<Stats>) => () =>
      read().flatMap(([labels, stats]) =>
        definition.values(stats).map(([own, value]): Value => [{ ...labels, ...own }, value]),
      );
    for (const counter of counters) {
      this.#add(label, counter, (common) => this.#counter(common, values(counter)));
    }
    for (const gauge of gauges) {
      this.#add(label, gauge, (common) => this.#gauge(common, values(gauge)));
    }
  }

  stop(): void {
    for (const remove of this.#removals.splice(0)) remove();
  }

  #add<Stats>(
    label: string,
    { name, help, labels = [] }: Definition<Stats>,
    register: (common: Common) => void,
  ): void {
    const full = this.#prefix + name;
    const labelNames = [label, ...labels];
    register({ name: full, help, labelNames, registers: [this.#register] });
    this.#removals.push(() => this.#register.removeSingleMetric(full));
  }

  #counter(common: Common, read: ValueReader): void {
    const counter: Counter = new this.#client.Counter({
      ...common,
      collect: () => {
        const values = read();
        // Limiters report totals, but a prom-client counter can only be incremented.
        counter.reset();
        for (const [labels, value] of values) counter.inc(labels, value);
      },
    });
  }

  #gauge(common: Common, read: ValueReader): void {
    const gauge: Gauge = new this.#client.Gauge({
      ...common,
      collect: () => {
        const values = read();
        // A value that is unknown in this scrape must not keep its old value.
        gauge.reset();
        for (const [labels, value] of values) gauge.set(labels, value);
      },
    });
  }
}

/** `look` returns null for a shared object of another kind. */
function sharedReader<Stats>(
  shared: readonly (readonly [name: string, watched: WatchedShared])[],
  look: (watched: WatchedShared) => Stats | null,
): Reader<Stats> {
  return oncePerScrape(() =>
    shared.flatMap(([limiter, watched]): Labeled<Stats>[] => {
      const stats = ifKnown(() => look(watched));
      return stats === null ? [] : [[{ limiter }, stats]];
    }),
  );
}

/** Caches what `read` returns for one scrape: prom-client collects all metrics in one synchronous pass. */
function oncePerScrape<T>(read: () => T): () => T {
  let latest: { value: T } | undefined;
  return () => {
    if (latest === undefined) {
      latest = { value: read() };
      queueMicrotask(() => {
        latest = undefined;
      });
    }
    return latest.value;
  };
}

function promClient(value: unknown): PromClient {
  const { Counter, Gauge } = (value ?? {}) as Partial<PromClient>;
  if (typeof Counter !== 'function' || typeof Gauge !== 'function') {
    throw invalidValue('ERR_LIMITER_OPTION', 'client', value, 'the module prom-client');
  }
  return value as PromClient;
}

function registry(value: unknown): Registry {
  const { registerMetric, removeSingleMetric } = (value ?? {}) as Partial<Registry>;
  if (typeof registerMetric !== 'function' || typeof removeSingleMetric !== 'function') {
    throw invalidValue('ERR_LIMITER_OPTION', 'register', value, 'a Registry of prom-client');
  }
  return value as Registry;
}

function prefixOf(value: unknown = PREFIX): string {
  if (typeof value === 'string' && /^([a-zA-Z_:][a-zA-Z0-9_:]*)?$/.test(value)) return value;
  const accepted = 'letters, digits, _ and :, not beginning with a digit';
  throw invalidValue('ERR_LIMITER_OPTION', 'prefix', value, accepted);
}
