// The playground's simulation: exact results for scenarios that can be computed by hand, and a naive token bucket as a
// second opinion.

import { describe, expect, test } from 'vitest';
import { PRESETS } from '../../playground/presets.js';
import { fromFragment, type Scenario, toFragment } from '../../playground/scenario.js';
import { attemptAt, type Level, simulate, tokensAt } from '../../playground/simulate.js';

/** One rule and one sender. */
function scenario(rule: object, sender: object, bans?: Scenario['options']['bans']): Scenario {
  return {
    options: {
      scopes: { peer: {} },
      rules: { messages: { scope: 'peer', ...rule } },
      ...(bans !== undefined && { bans }),
    },
    senders: [{ name: 'a', keys: { peer: 'a' }, perSecond: 1, ...sender }],
  };
}

const laneOf = (input: Scenario) =>
  simulate(input).lanes[0] as ReturnType<typeof simulate>['lanes'][0];

describe('simulate', () => {
  test('allows the burst and the rate of a bucket', () => {
    // Messages at 0, 0.5 ... 59.5: five tokens at first and one more per second make 64.5.
    const { counts, attempts } = laneOf(
      scenario({ rateLimit: 1, burstLimit: 5 }, { perSecond: 2 }),
    );
    expect(counts).toEqual({ allow: 64, delay: 56, banned: 0, denied: 0 });
    expect(attempts.length).toBe(120);
    const first = attempts.find(({ outcome }) => outcome === 'delay');
    expect(first).toEqual({
      time: 4.5,
      outcome: 'delay',
      rule: 'messages',
      scope: 'peer',
      delaySeconds: expect.closeTo(0.5, 5),
    });
  });

  test.each([
    [1, 5, 2, 1],
    [0.25, 3, 4, 1],
    [4, 20, 25, 1],
    [2, 7, 1.5, 15],
  ])(
    'reads levels of rate %d and burst %d as a naive bucket has them',
    (rate, burst, perSecond, atOnce) => {
      const { levels, attempts } = laneOf(
        scenario({ rateLimit: rate, burstLimit: burst }, { perSecond, atOnce }),
      );
      const [level] = levels as [Level];
      expect(level).toMatchObject({ rule: 'messages', scope: 'peer', limit: burst });
      // Replays the messages between the recorded instants: levels are recorded before and after each message.
      let [tokens, time, sent] = [burst, 0, 0];
      let largest = 0;
      for (const [index, at] of level.times.entries()) {
        tokens = Math.min(burst, tokens + (at - time) * rate);
        time = at;
        const recorded = level.tokens[index] as number;
        if (recorded < tokens - 0.5) tokens -= 1;
        largest = Math.max(largest, Math.abs(recorded - tokens));
        while (attempts[sent] !== undefined && (attempts[sent]?.time as number) <= at) sent += 1;
      }
      expect(sent).toBe(attempts.length);
      expect(largest).toBeLessThan(1e-9);
      const taken = level.tokens.filter(
        (now, index) => now < (level.tokens[index - 1] ?? now) - 0.5,
      );
      expect(taken.length).toBe(attempts.filter(({ outcome }) => outcome === 'allow').length);
    },
  );

  test('bans by the ladder, and draws each ban from its beginning to its end', () => {
    // Four messages every ten seconds: one passes, two are refused, and the third refusal begins a ban.
    const input = scenario(
      { rateLimit: 1, burstLimit: 1 },
      { perSecond: 0.4, atOnce: 4 },
      { peer: { violations: 3, withinSeconds: 30, seconds: [5, 10, 20] } },
    );
    const { lanes, bans } = simulate(input);
    expect(bans.map(({ time, banDuration }) => [time, banDuration])).toEqual([
      [0, 5],
      [10, 10],
      [20, 20],
      [40, 20],
    ]);
    expect(lanes[0]?.bans).toEqual([
      { from: 0, until: 5 },
      { from: 10, until: 20 },
      { from: 20, until: 40 },
      { from: 40, until: 60 },
    ]);
    expect(lanes[0]?.counts).toEqual({ allow: 4, delay: 8, banned: 12, denied: 0 });
  });

  test('lets a sender that waits for its delay lose nothing', () => {
    const { attempts } = laneOf(
      scenario(
        { rateLimit: 1, burstLimit: 5 },
        { perSecond: 20, atOnce: 20, until: 1, waits: true },
      ),
    );
    const allowed = attempts.filter(({ outcome }) => outcome === 'allow').map(({ time }) => time);
    expect(allowed.length).toBe(20);
    // Five at once, then one per second.
    expect(allowed[4]).toBe(0);
    expect(allowed.at(-1)).toBeCloseTo(15, 1);
    // One refusal for each delay: no message is repeated before it is due.
    expect(attempts.length).toBe(20 + 15);
  });

  test('gives each of several peers its own keys, in turn', () => {
    const { counts } = laneOf(
      scenario(
        { rateLimit: 0.001, burstLimit: 2 },
        { keys: { peer: 'p{n}' }, peers: 3, perSecond: 1 },
      ),
    );
    expect(counts).toMatchObject({ allow: 6, delay: 54 });
  });

  test('sends from and until the seconds of a sender', () => {
    const { attempts } = laneOf(scenario({ rateLimit: 1 }, { from: 10, until: 20 }));
    expect(attempts[0]?.time).toBe(10);
    expect(attempts.at(-1)?.time).toBe(19);
  });

  test.each(PRESETS.map((preset) => [preset.title, preset] as const))(
    'runs “%s” twice with equal results, also through a link',
    (_, { options, senders }) => {
      const once = simulate({ options, senders });
      expect(once.lanes.every(({ attempts }) => attempts.length > 0)).toBe(true);
      const linked = fromFragment(toFragment({ options, senders })) as Scenario;
      expect(linked).toEqual({ options, senders });
      expect(simulate(linked)).toEqual(once);
    },
  );

  test.each([
    [{ perSecond: 0 }, 'senders[0].perSecond must be a number from 0.01 to 1000, got 0'],
    [{ waits: 1 }, 'senders[0].waits must be true or false, got 1'],
    [{ typo: 1 }, 'senders[0] has an unknown field, "typo"'],
    [{ perSecond: 1000 }, 'the senders must send at most 20000 messages in total'],
    [{ keys: { nobody: 'a' } }, /"nobody"/],
    [{ cost: -1 }, /cost/i],
  ])('refuses the sender %j', (sender, message) => {
    expect(() => simulate(scenario({ rateLimit: 1 }, sender))).toThrow(message);
  });

  test('passes on what RuleLimiter says of its options', () => {
    expect(() => simulate(scenario({ rateLimit: 0 }, {}))).toThrow(/rateLimit must be/);
    expect(() => simulate({ ...scenario({ rateLimit: 1 }, {}), options: {} as never })).toThrow(
      /scopes must be/,
    );
  });
});

describe('a lane at a time', () => {
  const { levels, ...lane } = laneOf(
    scenario({ rateLimit: 1, burstLimit: 4 }, { atOnce: 4, perSecond: 0.4 }),
  );
  const [level] = levels as [Level];

  test('has the tokens between two records', () => {
    expect(tokensAt(level, 0)).toBe(0);
    expect(tokensAt(level, 1.23)).toBeCloseTo(1.23, 9);
    expect(tokensAt(level, 9)).toBe(4);
    // Before the first record and after the last one the level is that record's.
    expect(tokensAt(level, -1)).toBe(4);
    expect(tokensAt(level, 99)).toBe(level.tokens.at(-1));
  });

  test('has the last message before it', () => {
    expect(attemptAt({ ...lane, levels }, 9.9)?.time).toBe(0);
    expect(attemptAt({ ...lane, levels }, 10)?.time).toBe(10);
    expect(attemptAt({ ...lane, levels, attempts: [] }, 10)).toBeUndefined();
  });
});

test.each(['', '%', 'e30', btoa('[1]'), btoa('{"options":3}')])(
  'the fragment %j holds no scenario',
  (text) => {
    expect(fromFragment(text)).toBeUndefined();
  },
);
