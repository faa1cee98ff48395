// relay-limiter/metrics: limiters as metrics of prom-client. Totals are read when a scrape asks for them;
// between scrapes nothing runs, except that a sample of the checks is timed. Knows prom-client only as
// the user's module, handed in.

import type {
  Counter,
  CounterConfiguration,
  Gauge,
  GaugeConfiguration,
  Histogram,
  HistogramConfiguration,
  Registry,
} from 'prom-client';
import { refused } from '../common/errors.js';
import { count, readOptions } from '../common/options.js';
import {
  ifKnown,
  type LimiterStats,
  type NamedLimiters,
  namedLimiters,
  type ObservableLimiter,
  statsOf,
} from '../limiters/stats.js';
import type { Definition, Definitions, Description, Value } from './definitions.js';
import { sampleChecks } from './sampling.js';
import { BANS, banFigures, LIMITS, limitFigures, type NamedShared, namedShared } from './shared.js';

export type { NamedLimiters, ObservableLimiter as WatchedLimiter } from '../limiters/stats.js';
export type { NamedShared, SharedFigures, WatchedShared } from './shared.js';

/** What is used of the module prom-client. */
export interface PromClient {
  readonly Counter: new <T extends string>(configuration: CounterConfiguration<T>) => Counter<T>;
  readonly Gauge: new <T extends string>(configuration: GaugeConfiguration<T>) => Gauge<T>;
  readonly Histogram: new <T extends string>(
    configuration: HistogramConfiguration<T>,
  ) => Histogram<T>;
  readonly register: Registry;
}

export interface MetricsOptions {
  /** The module prom-client, 15 or later, as you import it: so there is only one copy of it. */
  client: PromClient;
  /** The limiters, by the names that their label `limiter` is to have; one at least, unless there are `shared` ones. */
  limiters?: NamedLimiters | undefined;
  /** The `SharedRateLimiter` and `SharedBans` of relay-limiter/redis, by names as well. */
  shared?: NamedShared | undefined;
  /** Where the metrics are registered. Default: prom-client's own, `client.register`. */
  register?: Registry | undefined;
  /** What all names begin with. Default `relay_limiter_`. */
  prefix?: string | undefined;
  /**
   * About one check in so many is timed for the histogram of check seconds: a whole number; 0 times
   * none, and there is no histogram. Default 100.
   */
  sampleEvery?: number | undefined;
}

/** Metrics that are being collected. */
export interface Collection {
  /** Takes the metrics out of the registry, and gives the limiters their own checks back. */
  stop(): void;
}

const OPTIONS = ['client', 'limiters', 'shared', 'register', 'prefix', 'sampleEvery'];
const PREFIX = 'relay_limiter_';

/** Seconds: a check takes a fraction of a microsecond, unless the garbage collector comes in between. */
const BUCKETS = [1e-7, 2.5e-7, 5e-7, 1e-6, 2.5e-6, 5e-6, 1e-5, 1e-4, 1e-3, 1e-2];

/** What every metric of prom-client is made with. */
interface Common {
  name: string;
  help: string;
  labelNames: string[];
  registers: Registry[];
}

const LIMITERS: Definitions<LimiterStats> = {
  counters: [
    {
      name: 'checks_total',
      help: 'Checks by verdict: by key, of opened peers and of groups.',
      labels: ['verdict'],
      values: ({ verdicts }) =>
        Object.entries(verdicts).map(([verdict, total]) => [{ verdict }, total]),
    },
    {
      name: 'bans_total',
      help: 'Bans that checks began.',
      values: ({ bansBegun }) => [[{}, bansBegun]],
    },
    {
      name: 'evictions_total',
      help: 'Records given up to make room; lossy ones forgot something.',
      labels: ['lossy'],
      values: ({ evictions, lossyEvictions }) => [
        [{ lossy: 'true' }, lossyEvictions],
        [{ lossy: 'false' }, evictions - lossyEvictions],
      ],
    },
    {
      name: 'refused_newcomers_total',
      help: 'Checks of new peers refused for want of room.',
      values: ({ refusedNewcomers }) => [[{}, refusedNewcomers]],
    },
  ],
  gauges: [
    {
      name: 'tracked_peers',
      help: 'Peers in the table.',
      values: ({ trackedPeers }) => [[{}, trackedPeers]],
    },
    { name: 'banned_peers', help: 'Bans in force.', values: ({ banned }) => [[{}, banned]] },
    {
      name: 'violations',
      help: 'Violations of the peers that are remembered.',
      values: ({ totalViolations }) => [[{}, totalViolations]],
    },
    {
      name: 'table_bytes',
      help: 'Bytes of the peer tables, where the engine knows them.',
      values: ({ memoryBytes }) => (memoryBytes === undefined ? [] : [[{}, memoryBytes]]),
    },
  ],
};

const CHECK_SECONDS: Description = {
  name: 'check_seconds',
  help: 'How long a check takes, of a sample of those by key and of opened peers.',
  labels: ['method'],
};

/**
 * Registers metrics of the limiters, which read them at each scrape. `checks_total`, `bans_total`,
 * `evictions_total`, `refused_newcomers_total`, `tracked_peers`, `banned_peers`, `violations` and
 * `table_bytes` cost nothing between scrapes; a limiter whose clock throws has none of them in that
 * scrape. `check_seconds` is a histogram by sampling of the checks by key, and of peers that are opened
 * from now on, labelled with the method; checks of groups are counted and not timed. What is shared has metrics
 * of its own: docs/observability.md names them.
 * @throws `ERR_LIMITER_OPTION` for what is not accepted; prom-client's error for a name that is
 * registered already. Then nothing has changed.
 */
export function collectMetrics(options: MetricsOptions): Collection {
  const given = readOptions('collectMetrics', options, OPTIONS);
  const client = promClient(given['client']);
  const register = registry(given['register'] ?? client.register);
  const shared = namedShared(given['shared']);
  const isShared = given['limiters'] === undefined && shared.length > 0;
  const limiters = isShared ? [] : namedLimiters(given['limiters']);
  const prefix = prefixOf(given['prefix']);
  const sampleEvery = count(given, 'sampleEvery', 100);
  const collector = new Collector(client, register, prefix);
  try {
    collector.addTotals(LIMITERS, limiters, statsOf);
    collector.addTotals(LIMITS, shared, limitFigures);
    collector.addTotals(BANS, shared, banFigures);
    if (sampleEvery > 0) collector.addSamples(limiters, sampleEvery);
  } catch (error) {
    collector.stop();
    throw error;
  }
  return { stop: () => collector.stop() };
}

type Named<Watched> = readonly (readonly [name: string, watched: Watched])[];
type Values<Figures> = (definition: Definition<Figures>) => Value[];

class Collector {
  readonly #client: PromClient;
  readonly #register: Registry;
  readonly #prefix: string;
  readonly #ends: (() => void)[] = [];

  constructor(client: PromClient, register: Registry, prefix: string) {
    this.#client = client;
    this.#register = register;
    this.#prefix = prefix;
  }

  /** Metrics of all that is watched; none where nothing is. `look` gives null where they are not its metrics. */
  addTotals<Watched, Figures>(
    { counters, gauges }: Definitions<Figures>,
    all: Named<Watched>,
    look: (watched: Watched) => Figures | null,
  ): void {
    if (all.length === 0) return;
    const values = valuesOf(all, look);
    for (const one of counters) this.#add(one, (common) => this.#counter(common, one, values));
    for (const one of gauges) this.#add(one, (common) => this.#gauge(common, one, values));
  }

  addSamples(limiters: Named<ObservableLimiter>, every: number): void {
    if (limiters.length === 0) return;
    const histogram = this.#add(CHECK_SECONDS, (common) => {
      return new this.#client.Histogram({ ...common, buckets: BUCKETS });
    });
    for (const [limiter, checked] of limiters) {
      const end = sampleChecks(checked, every, (method, seconds) =>
        histogram.observe({ limiter, method }, seconds),
      );
      this.#ends.push(end);
    }
  }

  stop(): void {
    for (const end of this.#ends.splice(0)) end();
  }

  #add<M>({ name, help, labels = [] }: Description, make: (common: Common) => M): M {
    const full = this.#prefix + name;
    const labelNames = ['limiter', ...labels];
    const metric = make({ name: full, help, labelNames, registers: [this.#register] });
    this.#ends.push(() => this.#register.removeSingleMetric(full));
    return metric;
  }

  #counter<F>(common: Common, definition: Definition<F>, valuesOf: Values<F>): void {
    const counter: Counter = new this.#client.Counter({
      ...common,
      collect: () => {
        const values = valuesOf(definition);
        // What is known is the total, and a counter of prom-client can only be increased.
        counter.reset();
        for (const [labels, value] of values) counter.inc(labels, value);
      },
    });
  }

  #gauge<F>(common: Common, definition: Definition<F>, valuesOf: Values<F>): void {
    const gauge: Gauge = new this.#client.Gauge({
      ...common,
      collect: () => {
        const values = valuesOf(definition);
        // Or what is not known any more would stay as it was.
        gauge.reset();
        for (const [labels, value] of values) gauge.set(labels, value);
      },
    });
  }
}

/** What all of them tell, read once for a scrape. */
function valuesOf<Watched, Figures>(
  all: Named<Watched>,
  look: (watched: Watched) => Figures | null,
): Values<Figures> {
  const read = together(() =>
    all.map(([name, watched]) => [name, ifKnown(() => look(watched))] as const),
  );
  return (definition) =>
    read().flatMap(([limiter, figures]) => {
      const values = figures === null ? [] : definition.values(figures);
      return values.map(([labels, value]): Value => [{ limiter, ...labels }, value]);
    });
}

/** Reads once for all metrics of a scrape: prom-client asks them in one turn. */
function together<T>(read: () => T): () => T {
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
  const { Counter, Gauge, Histogram } = (value ?? {}) as Partial<PromClient>;
  if (![Counter, Gauge, Histogram].every((metric) => typeof metric === 'function')) {
    throw refused('ERR_LIMITER_OPTION', 'client', value, 'the module prom-client');
  }
  return value as PromClient;
}

function registry(value: unknown): Registry {
  const { registerMetric, removeSingleMetric } = (value ?? {}) as Partial<Registry>;
  if (typeof registerMetric !== 'function' || typeof removeSingleMetric !== 'function') {
    throw refused('ERR_LIMITER_OPTION', 'register', value, 'a Registry of prom-client');
  }
  return value as Registry;
}

function prefixOf(value: unknown = PREFIX): string {
  if (typeof value === 'string' && /^([a-zA-Z_:][a-zA-Z0-9_:]*)?$/.test(value)) return value;
  const accepted = 'letters, digits, _ and :, and no digit first';
  throw refused('ERR_LIMITER_OPTION', 'prefix', value, accepted);
}
