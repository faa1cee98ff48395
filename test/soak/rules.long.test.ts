// The soak of RuleLimiter, briefly, and that it would notice.

import type { EngineName, RuleLimiter } from 'relay-limiter';
import { describe, expect, it } from 'vitest';
import { Difference } from '../../soak/model/model.js';
import { RuleRound, type RuleRoundOptions } from '../../soak/rule-round.js';
import { Tally } from '../../soak/tally.js';
import { ENGINES, otherEngine } from '../support/limiters.js';
import { printSeedOnFailure, SEED } from '../support/seed.js';

describe.each(ENGINES)('RuleLimiter on the %s engine', (engine) => {
  it('answers as the reference model does', () => {
    printSeedOnFailure();
    answersAsTheModel(engine, SEED);
  });

  it('answers as the reference model does where peers are evicted and calls fail', () => {
    const tally = answersAsTheModel(engine, 1);
    expect(tally.lossyEvictions).toBeGreaterThan(100);
    expect(tally.refusedNewcomers).toBeGreaterThan(100);
    expect(tally.bans).toBeGreaterThan(100);
    expect(tally.faultsInjected).toBeGreaterThan(100);
  });
});

function answersAsTheModel(engine: EngineName, seed: number): Tally {
  const tally = new Tally();
  for (let n = 0; n < 6; n += 1) {
    const engines = { engine, otherEngine: otherEngine(engine) };
    const round = new RuleRound({ seed: seed + n, ...engines, throwingListener: false }, tally);
    try {
      play(round, 4000);
    } catch (error) {
      console.error(round.describe());
      throw error;
    }
  }
  return tally;
}

/** Replaces methods of a limiter by wrong ones. */
type Flaw = (limiter: RuleLimiter) => Partial<RuleLimiter>;

const FLAWS: Record<string, [Flaw, RegExp]> = {
  'charges a refused check': [
    ({ check, charge }) => ({
      check(this: RuleLimiter, ...call) {
        const verdict = check.apply(this, call);
        if (verdict.outcome === 'delay') charge.apply(this, call);
        return verdict;
      },
    }),
    /^(check|checkPeer|peek|the tokens left): /,
  ],
  'returns delays that are too short': [
    ({ check }) => ({
      check(this: RuleLimiter, ...call) {
        const verdict = check.apply(this, call);
        return { ...verdict, delaySeconds: verdict.delaySeconds * 0.999 };
      },
    }),
    /^check: /,
  ],
  'forgets a charge': [() => ({ charge: () => {} }), /^(check|checkPeer|peek|the tokens left): /],
  'gives a refund twice': [
    ({ refund }) => ({
      refund(this: RuleLimiter, ...call) {
        refund.apply(this, call);
        refund.apply(this, call);
      },
    }),
    /^(check|checkPeer|peek|the tokens left): /,
  ],
  'bans for too short': [
    ({ ban }) => ({
      ban(this: RuleLimiter, scope, key, seconds = 1) {
        return ban.call(this, scope, key, seconds * 0.999);
      },
    }),
    /delaySeconds|banSecondsLeft|a listed ban/,
  ],
  'keeps the ban of a removed key': [() => ({ removePeer: () => {} }), /, not /],
  'removes keys that are not idle for long': [
    ({ cleanup }) => ({
      cleanup(this: RuleLimiter, age = 0, limits) {
        return cleanup.call(this, age / 2, limits);
      },
    }),
    /^cleanup: /,
  ],
  'ignores an update': [() => ({ update: () => {} }), /, not /],
  'loses an offender in a snapshot': [
    ({ snapshot }) => ({
      snapshot(this: RuleLimiter) {
        const saved = snapshot.call(this);
        for (const { peers } of saved.scopes) peers.pop();
        return saved;
      },
    }),
    /^in a snapshot, /,
  ],
  'restores nothing': [() => ({ restore: () => 0 }), /, not /],
  'evicts banned keys': [
    ({ check, unban }) => ({
      check(this: RuleLimiter, keys, ...call) {
        const { bans = [] } = this.maxPeers < Infinity ? this.getBans('connection', 1) : {};
        const [key] = bans[0] ?? [];
        const isFresh = typeof keys === 'object' && keys['connection']?.startsWith('fresh');
        if (key !== undefined && isFresh) unban.call(this, 'connection', key);
        return check.call(this, keys, ...call);
      },
    }),
    /, not /,
  ],
  'counts checks twice': [
    ({ getStats }) => ({
      getStats(this: RuleLimiter) {
        const stats = getStats.call(this);
        return { ...stats, outcomes: { ...stats.outcomes, allow: 2 * stats.outcomes.allow } };
      },
    }),
    /^outcomes: /,
  ],
};

describe('a RuleLimiter that is wrong', () => {
  it.each(Object.keys(FLAWS))('is found out if it %s', (name) => {
    const [flaw, words] = FLAWS[name] as [Flaw, RegExp];
    const spoil = (limiter: RuleLimiter) => {
      Object.assign(limiter, flaw(limiter));
    };
    expect(firstDifference(spoil, 60)).toMatch(words);
  });
});

/** What the first round says that finds a flaw; the seeds are fixed, since not every round can show it. */
function firstDifference(spoil: RuleRoundOptions['spoil'], rounds: number): string {
  for (let seed = 1; seed <= rounds; seed += 1) {
    const options = { engine: 'js', otherEngine: 'js', throwingListener: false } as const;
    try {
      play(new RuleRound({ seed, ...options, ...(spoil && { spoil }) }, new Tally()), 3000);
    } catch (error) {
      if (!(error instanceof Difference)) throw error;
      return error.message;
    }
  }
  return '';
}

function play(round: RuleRound, operations: number): void {
  round.run(operations);
  round.end();
}
