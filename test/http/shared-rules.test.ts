// The middleware with a SharedRuleLimiter: requests wait for the store, and get what they get with a RuleLimiter.

import { ServerResponse } from 'node:http';
import { describe, expect, test } from 'vitest';
// From the same build as the limiter: both use the same arrays.
import { type RateLimitOptions, rateLimit } from '../../lib/http/index.js';
import { RuleLimiter, type RuleLimiterOptions } from '../../lib/index.js';
import { manualClock } from '../support/limiters.js';
import { sharedRules } from '../support/shared-rules-stand-in.js';
import { ask, requestFrom } from './support.js';

const OPTIONS: RuleLimiterOptions = {
  scopes: { connection: {}, address: { kind: 'address' }, account: {} },
  rules: {
    minute: { scope: 'address', quota: 4, windowSeconds: 64 },
    bytes: { scope: 'address', unit: 'bytes', quota: 1024, windowSeconds: 8 },
    login: { scope: 'account', action: 'login', quota: 2, windowSeconds: 128 },
  },
  bans: { account: { violations: 2, withinSeconds: 1e6, seconds: 60 } },
  deny: { account: ['mallory'] },
};
const ACCOUNT: RateLimitOptions['keys'] = ({ headers }) => ({
  account: headers['account'] as string | undefined,
});

describe.each(['strict', 'leased'] as const)(
  'rateLimit with a SharedRuleLimiter in mode %s',
  (mode) => {
    const clock = manualClock();

    test('states and refuses as with a RuleLimiter', async () => {
      const shared = sharedRules(mode, { ...OPTIONS, clock });
      const local = new RuleLimiter({ ...OPTIONS, clock, engine: 'js' });
      const limitsOf = (limiter: RateLimitOptions['limiter']) => {
        const common = { limiter, keys: ACCOUNT } as const;
        return {
          login: rateLimit({ ...common, action: 'login' }),
          upload: rateLimit({ ...common, cost: { bytes: 600 } }),
        };
      };
      const [ours, theirs] = [limitsOf(shared), limitsOf(local)];
      const requests = [
        ['login', 'alice'],
        ['login', 'alice'],
        ['login', 'alice'],
        ['login', 'mallory'],
        ['login', 'bob'],
        ['upload', 'carol'],
        ['upload', 'carol'],
        ['login', 'alice'],
      ] as const;
      for (const [kind, account] of requests) {
        const given = { headers: { account } };
        const [mine, expected] = [await ask(ours[kind], given), await ask(theirs[kind], given)];
        expect([kind, account, mine.passed, mine.status]).toEqual([
          kind,
          account,
          expected.passed,
          expected.status,
        ]);
        // A lease is requested for some time, and what is on lease may be stated as used.
        if (mode === 'strict') expect(mine.fields).toEqual(expected.fields);
        else expect(Object.keys(mine.fields)).toEqual(Object.keys(expected.fields));
      }
    });

    test('gives back what a request has paid that turns out not to count', async () => {
      const limiter = sharedRules(mode, { ...OPTIONS, clock });
      const limit = rateLimit({
        limiter,
        keys: ACCOUNT,
        action: 'login',
        refundWhen: () => true,
      });
      for (let n = 0; n < 8; n += 1) {
        const request = requestFrom({ headers: { account: 'alice' } });
        const response = new ServerResponse(request);
        await new Promise<void>((resolve) => limit(request, response, () => resolve()));
        response.emit('finish');
        await new Promise((resolve) => setImmediate(resolve));
      }
      const { rules } = await limiter.peek({ account: 'alice' }, 1, 'login');
      expect(rules.find(({ rule }) => rule === 'login')?.remaining).toBe(2);
    });
  },
);
