// The three limiters under test: an adapter with one interface for all of them, random options, and the rules of the
// reference model that they must follow.

import {
  type Ban,
  DirectConnectionRateLimiter,
  type EngineName,
  OrderbookRateLimiter,
  type PeerGroup,
  RateLimiter,
  type Violator,
} from 'relay-limiter';
import type { Random } from '../test/support/random.js';
import {
  ALLOWED,
  BAN_BEGINS,
  DISCONNECT,
  directRules,
  orderbookRules,
  type Query,
  REFUSED,
  type Rules,
  rateRules,
  type SnapshotEntry,
} from './model/rules.js';

/** What the soak provides to a limiter. */
export interface Host {
  readonly maxPeers: number;
  readonly clock: () => number;
  /** Returns the ban that began with the last check, and forgets it. */
  takeBan(): Ban | undefined;
  readonly onBan: (ban: Ban) => void;
}

export interface Statistics {
  readonly peers: number;
  readonly tracked: number;
  readonly banned: readonly string[];
  readonly totalViolations: number;
  readonly topViolators: readonly Violator[];
  readonly evictions: number;
  readonly lossyEvictions: number;
  readonly refusedNewcomers: number;
  readonly unnamedOffenders: number;
  readonly bansBegun: number;
  readonly verdicts: { allow: number; delay: number; disconnect: number };
  /** Only of the native engine. */
  readonly memoryBytes?: number;
}

/** One interface for all three limiters. */
export interface LimiterAdapter {
  readonly engine: EngineName;
  /** Queries by key. */
  query(key: string, query: Query): number | boolean;
  /** Queries through a peer handle. */
  queryPeer(key: string, query: Query): number | boolean;
  violations(key: string): number;
  tokens?(key: string): number;
  /** Seconds until the peer has one token. */
  delay?(key: string): number;
  /** The tokens as of now. */
  refilled?(key: string): number;
  /** The seconds that the peer's ban has left. */
  secondsLeft?(key: string): number;
  remove(key: string): void;
  clear(): void;
  cleanup(maxAge: number, budgetMs?: number): number | undefined;
  statistics(): Statistics;
  group?(keys: readonly string[]): PeerGroup;
  snapshot(): {
    readonly peers: readonly SnapshotEntry[];
    readonly digests: readonly { readonly peers: readonly unknown[] }[];
  };
  restore(snapshot: unknown): number;
}

export interface Subject {
  readonly name: string;
  readonly rules: Rules;
  readonly queries: readonly Query[];
  create(engine: EngineName, host: Host): LimiterAdapter;
}

const MONTH = 30 * 86_400;
const COSTS = [1, 1, 1, 1, 1, 0, 0.5, 2, 3.7, 1000];
const ORDERBOOK: Query = { kind: 'orderbook' };
const BAN: Query = { kind: 'ban' };
const UNBAN: Query = { kind: 'unban' };
const TOKENS: Query[] = COSTS.map((cost) => ({ kind: 'tokens', cost }));

/** One limiter of each kind, with random options. */
export const SUBJECTS: readonly ((random: Random) => Subject)[] = [
  (random) => {
    const rateLimit = random.pick([0.01, 0.5, 1 / 3, 2.7, 10, 500]);
    const burstLimit = random.pick([1, 1.5, 3, 10, 40]);
    const disconnectThreshold = random.pick([null, 0, 3, 50]);
    return {
      name: 'RateLimiter',
      rules: rateRules({ rate: rateLimit, burst: burstLimit, disconnectThreshold }),
      queries: [...TOKENS, { kind: 'tokens', cost: burstLimit }],
      create(engine, { clock, maxPeers }) {
        const options = { engine, clock, maxPeers, rateLimit, burstLimit, disconnectThreshold };
        return adaptRate(new RateLimiter(options));
      },
    };
  },
  (random) => {
    const options = {
      interval: random.pick([0, 0.3, 5, 60]),
      violationBanThreshold: random.pick([0, 1, 3, 10, 100]),
      violationWarningThreshold: random.pick([1, 2, 10]),
      violationSevereThreshold: random.pick([1, 5, 50]),
      banDuration: random.pick([0, 3, 60, 3600, MONTH]),
    };
    return {
      name: 'OrderbookRateLimiter',
      rules: orderbookRules(options),
      queries: [...Array.from({ length: 10 }, () => ORDERBOOK), BAN, BAN, UNBAN],
      create: (engine, host) =>
        adaptOrderbook(new OrderbookRateLimiter({ engine, ...options, ...given(host) }), host),
    };
  },
  (random) => {
    const options = {
      messageRatePerSec: random.pick([0, 0.5, 5, 100]),
      messageBurst: random.pick([0, 1, 2.5, 20]),
      orderbookInterval: random.pick([0, 0.3, 5, 60]),
      orderbookBanThreshold: random.pick([0, 1, 3, 10]),
      banDuration: random.pick([0, 3, 60, 3600, MONTH]),
    };
    const bucket = { rate: options.messageRatePerSec, burst: options.messageBurst };
    return {
      name: 'DirectConnectionRateLimiter',
      rules: directRules({ ...options, ...bucket }),
      queries: [...TOKENS, ...TOKENS.map(() => ORDERBOOK), BAN, UNBAN],
      create: (engine, host) =>
        adaptDirect(new DirectConnectionRateLimiter({ engine, ...options, ...given(host) }), host),
    };
  },
];

function given({ clock, maxPeers, onBan }: Host) {
  return { clock, maxPeers, onBan };
}

function adaptRate(limiter: RateLimiter): LimiterAdapter {
  const answer = ([action, delay]: ReturnType<RateLimiter['check']>) => {
    if (action === 'delay') return delay;
    return action === 'allow' ? 0 : DISCONNECT;
  };
  const open = opener((key) => limiter.open(key));
  return {
    ...common(limiter),
    query: (key, query) => answer(limiter.check(key, costOf(query))),
    queryPeer: (key, query) => answer(open(key).check(costOf(query))),
    tokens: (key) => limiter.getTokens(key),
    delay: (key) => limiter.getDelayForPeer(key),
    refilled: (key) => limiter.peek(key).remaining,
    cleanup: (age, budgetMs) => limiter.cleanupOldPeers(age, limits(budgetMs)),
    statistics() {
      const { trackedPeers, ...others } = limiter.getStats();
      return { tracked: trackedPeers, banned: [], ...others };
    },
    group: (keys) => limiter.group(keys),
  };
}

function adaptOrderbook(limiter: OrderbookRateLimiter, host: Host): LimiterAdapter {
  const open = opener((key) => limiter.open(key));
  const ask = (key: string, query: Query, check: () => boolean) => {
    if (query.kind === 'ban') return limiter.isBanned(key);
    if (query.kind === 'unban') return limiter.unban(key);
    return refusal(limiter, check(), key, host);
  };
  return {
    ...common(limiter),
    secondsLeft: (key) => open(key).banSecondsLeft(),
    query: (key, query) => ask(key, query, () => limiter.check(key)),
    queryPeer: (key, query) => ask(key, query, () => open(key).check()),
    cleanup(age, budgetMs) {
      limiter.cleanupOldEntries(age, limits(budgetMs));
      return undefined;
    },
    statistics() {
      const { trackedPeers, bannedPeers, ...others } = limiter.getStatistics();
      return { tracked: trackedPeers, banned: bannedPeers, ...others };
    },
  };
}

function adaptDirect(limiter: DirectConnectionRateLimiter, host: Host): LimiterAdapter {
  const open = opener((key) => limiter.open(key));
  return {
    ...common(limiter),
    query(key, query) {
      if (query.kind === 'ban') return limiter.isBanned(key);
      if (query.kind === 'unban') return limiter.unban(key);
      if (query.kind === 'orderbook')
        return refusal(limiter, limiter.checkOrderbook(key), key, host);
      return refusal(limiter, limiter.checkMessage(key, costOf(query)), key, host);
    },
    queryPeer(key, query) {
      if (query.kind === 'ban') return open(key).isBanned();
      if (query.kind === 'unban') return limiter.unban(key);
      if (query.kind === 'orderbook')
        return refusal(limiter, open(key).checkOrderbook(), key, host);
      return refusal(limiter, open(key).checkMessage(costOf(query)), key, host);
    },
    cleanup(age, budgetMs) {
      limiter.cleanupOldEntries(age, limits(budgetMs));
      return undefined;
    },
    statistics() {
      const { trackedConnections, bannedConnections, ...others } = limiter.getStatistics();
      return { tracked: trackedConnections, banned: bannedConnections, ...others };
    },
    tokens: (key) => limiter.getTokens(key),
    secondsLeft: (key) => limiter.banSecondsLeft(key),
    group: (keys) => limiter.group(keys),
  };
}

/** The methods that have the same name in all limiters. */
function common(limiter: RateLimiter | OrderbookRateLimiter | DirectConnectionRateLimiter) {
  return {
    engine: limiter.engine,
    violations: (key: string) => limiter.getViolationCount(key),
    remove: (key: string) => limiter.removePeer(key),
    clear: () => limiter.clear(),
    snapshot: () => limiter.snapshot(),
    restore: (snapshot: unknown) => limiter.restore(snapshot),
  };
}

/** Caches peer handles: a handle must stay valid whatever happens to the table. */
function opener<Peer>(open: (key: string) => Peer): (key: string) => Peer {
  const peers = new Map<string, Peer>();
  return (key) => {
    const peer = peers.get(key) ?? open(key);
    peers.set(key, peer);
    return peer;
  };
}

/** Returns the answer of a check; NaN if the check reports a ban but is not refused, or if the report is wrong. */
function refusal(
  limiter: OrderbookRateLimiter | DirectConnectionRateLimiter,
  allowed: boolean,
  key: string,
  host: Host,
): number {
  const ban = host.takeBan();
  if (ban === undefined) return allowed ? ALLOWED : REFUSED;
  const holds =
    !allowed &&
    ban.key === key &&
    ban.violations === limiter.getViolationCount(key) &&
    ban.banDuration === limiter.banDuration;
  return holds ? BAN_BEGINS : Number.NaN;
}

function costOf(query: Query): number | undefined {
  return query.kind === 'tokens' ? query.cost : undefined;
}

function limits(budgetMs: number | undefined) {
  return budgetMs === undefined ? undefined : { budgetMs };
}
