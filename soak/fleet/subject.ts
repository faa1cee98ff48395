// What a node puts under load: a SharedRateLimiter, or a SharedRuleLimiter whose checks ask two rules with the same limit.

import type { EngineName } from 'relay-limiter';
import { SharedRateLimiter, SharedRuleLimiter } from 'relay-limiter/redis';
import type { FleetLimit, NodeState } from './messages.js';

/** The peers whose limits are under load. Each is on another server of a cluster, or may be. */
export const PEERS = ['ada', 'bob', 'cyd'] as const;
/** With rules each peer has an account too, which two of them share: what one of both takes, the other has not. */
const ACCOUNTS: Readonly<Record<string, string>> = { ada: 'one', bob: 'one', cyd: 'two' };

export interface Subject {
  /** The buckets from which a check of a peer takes its cost. */
  bucketsOf(peer: string): readonly string[];
  /** Checks a peer, at once or by a promise. Whether the check is allowed. */
  check(peer: string, cost: number, isAtOnce: boolean): boolean | Promise<boolean>;
  state(): Pick<NodeState, 'beats' | 'nodes' | 'leasedTokens' | 'store'>;
  onState(listener: (state: 'up' | 'down') => void): void;
}

/** The pattern of the store's keys of buckets. */
export const BUCKET_KEYS: Readonly<Record<FleetLimit['limiter'], string>> = {
  rate: '*{*}[a-z]*',
  rules: '{*}:rules:*:*:*',
};

export function createSubject(
  client: object,
  engine: EngineName,
  nodes: number,
  { limiter, rateLimit, burstLimit, ...limit }: FleetLimit,
): Subject {
  const common = { client, engine, nodes, ...limit };
  if (limiter === 'rate')
    return ofRate(new SharedRateLimiter({ ...common, rateLimit, burstLimit }));
  const numbers = { rateLimit, burstLimit };
  return ofRules(
    new SharedRuleLimiter({
      ...common,
      scopes: { address: {}, account: {} },
      rules: {
        messages: { scope: 'address', ...numbers },
        events: { scope: 'account', ...numbers },
      },
    }),
  );
}

function ofRate(limiter: SharedRateLimiter): Subject {
  return {
    bucketsOf: (peer) => [peer],
    check(peer, cost, isAtOnce) {
      if (isAtOnce) return limiter.check(peer, cost)[0] === 'allow';
      return limiter.checkAsync(peer, cost).then(([action]) => action === 'allow');
    },
    ...storeOf(limiter),
  };
}

function ofRules(limiter: SharedRuleLimiter): Subject {
  return {
    bucketsOf: (peer) => [`address ${peer}`, `account ${ACCOUNTS[peer]}`],
    check(peer, cost, isAtOnce) {
      const keys = { address: peer, account: ACCOUNTS[peer] as string };
      if (isAtOnce) return limiter.check(keys, cost).outcome === 'allow';
      return limiter.checkAsync(keys, cost).then(({ outcome }) => outcome === 'allow');
    },
    ...storeOf(limiter),
  };
}

function storeOf(
  limiter: SharedRateLimiter | SharedRuleLimiter,
): Pick<Subject, 'state' | 'onState'> {
  return {
    state() {
      const { leasedTokens, store } = limiter.getStats();
      const { state, beats, nodes } = store;
      return { leasedTokens, store: state, beats, nodes };
    },
    onState(listener) {
      limiter.on('state', ({ state }: { state: 'up' | 'down' }) => listener(state));
    },
  };
}
