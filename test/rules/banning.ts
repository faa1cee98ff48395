// A subject with one rule and bans, for tests of bans.

import type { BanSpec, RuleSpec } from './plans.js';
import { type CoreName, RuleSubject } from './subject.js';

export const PEER = { address: 'peer' };
export const RULE: RuleSpec = { scope: 'address', rate: 1, burst: 1 };
/** More than a burst: refused at any time. */
export const REFUSED = { cost: 2 };

export function banningSubject(
  core: CoreName,
  policy: Partial<BanSpec> = {},
  rule: Partial<RuleSpec> = {},
): RuleSubject {
  return new RuleSubject(core, {
    scopes: { address: false },
    rules: { messages: { ...RULE, ...rule } },
    bans: { address: { violations: 3, withinSeconds: 30, seconds: [60, 600, 3600], ...policy } },
  });
}

/** Makes refused checks until a ban begins, and returns its length. */
export function untilBan(limiter: RuleSubject, random = 0.5): number {
  for (let n = 0; n < 100; n += 1) {
    const verdict = limiter.check(PEER, { ...REFUSED, random });
    if (typeof verdict === 'object' && 'ban' in verdict) return verdict.ban;
  }
  throw new Error('no ban');
}
