// The three limiters as the soak asks them: one way to put a question to any of them, random options,
// and the rules that they are held to.

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
  type Question,
  REFUSED,
  type Rules,
  rateRules,
  type SnapshotEntry,
} from './model/rules.js';

/** What the soak gives a limiter. */
export interface Host {
  readonly maxPeers: number;
  readonly clock: () => number;
  /** The ban that began with the last check, once. */
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
  /** Of the native engine. */
  readonly memoryBytes?: number;
}

/** A limiter, asked. */
export interface Asked {
  readonly engine: EngineName;
  /** By key, or of a peer that was opened. */
  ask(key: string, question: Question): number | boolean;
  askOpened(key: string, question: Question): number | boolean;
  violations(key: string): number;
  /** Of limiters that tell: tokens, and seconds until there is one. */
  tokens?(key: string): number;
  delay?(key: string): number;
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
  readonly questions: readonly Question[];
  create(engine: EngineName, host: Host): Asked;
}

const MONTH = 30 * 86_400;
const COSTS = [1, 1, 1, 1, 1, 0, 0.5, 2, 3.7, 1000];
const ORDERBOOK: Question = { ask: 'orderbook' };
const BAN: Question = { ask: 'ban' };
const TOKENS: Question[] = COSTS.map((cost) => ({ ask: 'tokens', cost }));

/** A limiter of each kind, with options of chance. */
export const SUBJECTS: readonly ((random: Random) => Subject)[] = [
  (random) => {
    const rateLimit = random.pick([0.01, 0.5, 1 / 3, 2.7, 10, 500]);
    const burstLimit = random.pick([1, 1.5, 3, 10, 40]);
    const disconnectThreshold = random.pick([null, 0, 3, 50]);
    return {
      name: 'RateLimiter',
      rules: rateRules({ rate: rateLimit, burst: burstLimit, disconnectThreshold }),
      questions: [...TOKENS, { ask: 'tokens', cost: burstLimit }],
      create(engine, { clock, maxPeers }) {
        const options = { engine, clock, maxPeers, rateLimit, burstLimit, disconnectThreshold };
        return askRate(new RateLimiter(options));
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
      questions: [ORDERBOOK, ORDERBOOK, ORDERBOOK, ORDERBOOK, ORDERBOOK, BAN],
      create: (engine, host) =>
        askOrderbook(new OrderbookRateLimiter({ engine, ...options, ...given(host) }), host),
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
      questions: [...TOKENS, ...TOKENS.map(() => ORDERBOOK), BAN],
      create: (engine, host) =>
        askDirect(new DirectConnectionRateLimiter({ engine, ...options, ...given(host) }), host),
    };
  },
];

function given({ clock, maxPeers, onBan }: Host) {
  return { clock, maxPeers, onBan };
}

function askRate(limiter: RateLimiter): Asked {
  const answer = ([action, delay]: ReturnType<RateLimiter['check']>) => {
    if (action === 'delay') return delay;
    return action === 'allow' ? 0 : DISCONNECT;
  };
  const open = opener((key) => limiter.open(key));
  return {
    ...common(limiter),
    ask: (key, question) => answer(limiter.check(key, costOf(question))),
    askOpened: (key, question) => answer(open(key).check(costOf(question))),
    tokens: (key) => limiter.getTokens(key),
    delay: (key) => limiter.getDelayForPeer(key),
    cleanup: (age, budgetMs) => limiter.cleanupOldPeers(age, limits(budgetMs)),
    statistics() {
      const { trackedPeers, ...others } = limiter.getStats();
      return { tracked: trackedPeers, banned: [], ...others };
    },
    group: (keys) => limiter.group(keys),
  };
}

function askOrderbook(limiter: OrderbookRateLimiter, host: Host): Asked {
  const open = opener((key) => limiter.open(key));
  const ask = (key: string, question: Question, check: () => boolean) =>
    question.ask === 'ban' ? limiter.isBanned(key) : refusal(limiter, check(), key, host);
  return {
    ...common(limiter),
    ask: (key, question) => ask(key, question, () => limiter.check(key)),
    askOpened: (key, question) => ask(key, question, () => open(key).check()),
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

function askDirect(limiter: DirectConnectionRateLimiter, host: Host): Asked {
  const open = opener((key) => limiter.open(key));
  return {
    ...common(limiter),
    ask(key, question) {
      if (question.ask === 'ban') return limiter.isBanned(key);
      if (question.ask === 'orderbook')
        return refusal(limiter, limiter.checkOrderbook(key), key, host);
      return refusal(limiter, limiter.checkMessage(key, costOf(question)), key, host);
    },
    askOpened(key, question) {
      if (question.ask === 'ban') return open(key).isBanned();
      if (question.ask === 'orderbook')
        return refusal(limiter, open(key).checkOrderbook(), key, host);
      return refusal(limiter, open(key).checkMessage(costOf(question)), key, host);
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
    group: (keys) => limiter.group(keys),
  };
}

/** What all limiters call by the same name. */
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

/** Peers that are opened once and asked ever after, whatever happens to the table. */
function opener<Peer>(open: (key: string) => Peer): (key: string) => Peer {
  const peers = new Map<string, Peer>();
  return (key) => {
    const peer = peers.get(key) ?? open(key);
    peers.set(key, peer);
    return peer;
  };
}

/** What a check says; the announcement of a ban must come with a refusal, and say the truth. */
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

function costOf(question: Question): number | undefined {
  return question.ask === 'tokens' ? question.cost : undefined;
}

function limits(budgetMs: number | undefined) {
  return budgetMs === undefined ? undefined : { budgetMs };
}
