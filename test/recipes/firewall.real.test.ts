// The recipes that pass bans on to nftables and CrowdSec, with programs that record what they get.

import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { OrderbookRateLimiter, RateLimiter, RuleLimiter } from 'relay-limiter';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { BanFeed, BanOptions } from '../../out/examples/recipes/bans.js';
import { banInCrowdSec } from '../../out/examples/recipes/crowdsec.js';
import { banInNftables } from '../../out/examples/recipes/nftables.js';
import { until } from '../support/sockets.js';

/** Records its arguments and its input. It waits while the file `hold` exists, and fails while `fail` does. */
const PROGRAM = `#!${process.execPath}
const { appendFileSync, existsSync, readFileSync } = require('node:fs');
const at = (name) => require('node:path').join(__dirname, name);
appendFileSync(at('started'), '.');
const end = () => {
  if (existsSync(at('hold'))) return setTimeout(end, 5);
  const call = { args: process.argv.slice(2), input: readFileSync(0, 'utf8') };
  appendFileSync(at('calls'), JSON.stringify(call) + '\\n');
  if (existsSync(at('fail'))) {
    console.error('Operation not permitted');
    process.exit(1);
  }
};
end();
`;

interface Call {
  readonly args: string[];
  readonly input: string;
}

const folders: string[] = [];
const feeds: BanFeed[] = [];

// A run states how long a ban still lasts: time stands still, so that it does not depend on when the run begins.
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] });
});

afterEach(async () => {
  vi.useRealTimers();
  for (const feed of feeds.splice(0)) await feed.close();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

function program() {
  const folder = mkdtempSync(join(tmpdir(), 'relay-limiter-'));
  folders.push(folder);
  const at = (name: string) => join(folder, name);
  const textOf = (name: string) => (existsSync(at(name)) ? readFileSync(at(name), 'utf8') : '');
  writeFileSync(at('program'), PROGRAM);
  chmodSync(at('program'), 0o755);
  return {
    command: at('program'),
    create: (name: string) => writeFileSync(at(name), ''),
    remove: (name: string) => rmSync(at(name)),
    isStarted: () => textOf('started') !== '',
    calls: (): Call[] =>
      textOf('calls')
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line)),
  };
}

type Recipe = (options: BanOptions & { command: string }) => BanFeed;

function follow(recipe: Recipe, options: Partial<BanOptions> & { limiter: object }) {
  const fake = program();
  const errors: Error[] = [];
  const onError = (error: unknown) => errors.push(error as Error);
  const feed = recipe({ command: fake.command, onError, ...options });
  feeds.push(feed);
  return { ...fake, feed, errors };
}

/** A limiter that bans with the first check. */
const strict = (banDuration = 600) =>
  new OrderbookRateLimiter({ violationBanThreshold: 0, banDuration });

const set = (name: string, verb: string, elements: string) =>
  `${verb} element inet relay_limiter ${name} { ${elements} }\n`;

// Neither program exists on Windows, and it runs no file by its first line.
describe.skipIf(process.platform === 'win32')('banInNftables', () => {
  test('adds a ban of an address with its timeout', async () => {
    const limiter = strict();
    const { feed, calls, errors } = follow(banInNftables, { limiter });
    limiter.check('192.0.2.1');
    await feed.close();
    const input =
      set('banned4', 'add', '192.0.2.1') +
      set('banned4', 'delete', '192.0.2.1') +
      set('banned4', 'add', '192.0.2.1 timeout 600s');
    expect(calls()).toEqual([{ args: ['-f', '-'], input }]);
    expect(errors).toEqual([]);
  });

  test('adds bans that begin during a run in one run, of both families, in the order of their beginning', async () => {
    const limiter = strict();
    const { feed, calls, create, remove, isStarted } = follow(banInNftables, { limiter });
    create('hold');
    limiter.check('192.0.2.1');
    await until(isStarted);
    for (const key of ['192.0.2.3', '2001:db8::/64', '192.0.2.2', '2001:db8:1::/64']) {
      limiter.check(key);
    }
    // A later ban of the same peer replaces an earlier one, and a lift replaces a ban.
    feed.ban('192.0.2.3', Infinity);
    feed.unban('2001:db8:1::/64');
    remove('hold');
    await feed.close();
    const [, second, ...others] = calls();
    expect(others).toEqual([]);
    expect(second?.input).toBe(
      set('banned4', 'add', '192.0.2.3, 192.0.2.2') +
        set('banned4', 'delete', '192.0.2.3, 192.0.2.2') +
        set('banned4', 'add', '192.0.2.3, 192.0.2.2 timeout 600s') +
        set('banned6', 'add', '2001:db8::, 2001:db8:1::') +
        set('banned6', 'delete', '2001:db8::, 2001:db8:1::') +
        set('banned6', 'add', '2001:db8:: timeout 600s'),
    );
  });

  test('only deletes an element for a lifted ban', async () => {
    const { feed, calls } = follow(banInNftables, { limiter: strict() });
    expect(feed.unban('192.0.2.1')).toBe(true);
    await feed.close();
    const input = set('banned4', 'add', '192.0.2.1') + set('banned4', 'delete', '192.0.2.1');
    expect(calls()).toEqual([{ args: ['-f', '-'], input }]);
  });

  test('shortens timeouts that nft cannot read', async () => {
    const { feed, calls } = follow(banInNftables, { limiter: strict() });
    feed.ban('192.0.2.1', 1e12);
    await feed.close();
    expect(calls()[0]?.input).toContain('192.0.2.1 timeout 99999999s');
  });

  test.each([
    'alice',
    '',
    '192.0.2.1; flush ruleset',
    '192.0.2.1 }\nflush ruleset\n',
    '$(reboot)',
    '192.0.2.01',
    '::ffff:192.0.2.1',
    '[2001:db8::1]:80',
    '2001:DB8::/64',
    '2001:db8::1',
    // Networks of another length overlap, or match nothing.
    '2001:db8::/48',
    '192.0.2.0/24',
    '#1',
  ])('skips the key %j, which is not the key of an address', async (key) => {
    const limiter = strict();
    const { feed, calls, errors } = follow(banInNftables, { limiter });
    limiter.check(key);
    expect([feed.ban(key, 60), feed.unban(key)]).toEqual([false, false]);
    await feed.close();
    expect([calls(), errors]).toEqual([[], []]);
  });

  test('follows one scope of a RuleLimiter, with the lengths of its networks', async () => {
    const limiter = new RuleLimiter({
      scopes: {
        address: { kind: 'address' },
        network: { from: 'address', ipv4Subnet: 24, ipv6Subnet: 48 },
      },
      rules: {
        messages: { scope: 'address', quota: 1, windowSeconds: 3600 },
        all: { scope: 'network', quota: 1, windowSeconds: 3600 },
      },
      bans: {
        address: { violations: 1, withinSeconds: 60, seconds: 60 },
        network: { violations: 1, withinSeconds: 60, seconds: 120 },
      },
    });
    const subnets = { ipv4Subnet: 24, ipv6Subnet: 48 };
    const addresses = follow(banInNftables, { limiter, scope: 'address' });
    const networks = follow(banInNftables, { limiter, scope: 'network', ...subnets });
    for (const address of ['198.51.100.7', '2001:db8::1']) {
      limiter.check({ address });
      expect(limiter.check({ address }).outcome).toBe('banned');
    }
    await addresses.feed.close();
    await networks.feed.close();
    const added = ({ calls }: typeof addresses) =>
      calls().flatMap(({ input }) => input.split('\n').filter((line) => line.includes('timeout')));
    const line = (name: string, elements: string) => set(name, 'add', elements).trim();
    expect(added(addresses)).toEqual([
      line('banned4', '198.51.100.7 timeout 60s'),
      line('banned6', '2001:db8:: timeout 60s'),
    ]);
    expect(added(networks)).toEqual([
      line('banned4', '198.51.100.0 timeout 120s'),
      line('banned6', '2001:db8:: timeout 120s'),
    ]);
  });

  test('ignores the bans of other limiters, and all bans after close', async () => {
    const limiter = strict();
    const { feed, calls } = follow(banInNftables, { limiter });
    strict().check('192.0.2.1');
    await feed.close();
    limiter.check('192.0.2.2');
    await feed.close();
    expect(calls()).toEqual([]);
  });

  test('loses bans beyond maxQueued, and reports how many', async () => {
    const limiter = strict();
    const options = { limiter, maxQueued: 2 };
    const { feed, calls, errors } = follow(banInNftables, options);
    for (const n of [1, 2, 3, 4]) limiter.check(`192.0.2.${n}`);
    expect(feed.ban('192.0.2.1', 60)).toBe(true);
    await feed.close();
    expect(calls()[0]?.input).toContain(
      'add element inet relay_limiter banned4 { 192.0.2.1, 192.0.2.2 }',
    );
    expect(errors.map(({ message }) => message)).toEqual(['2 bans were lost: 2 were waiting']);
  });

  test('reports a run that failed, with what the program said, and runs again for the next ban', async () => {
    const limiter = strict();
    const { feed, calls, errors, create, remove } = follow(banInNftables, { limiter });
    create('fail');
    limiter.check('192.0.2.1');
    await until(() => errors.length === 1);
    expect(errors[0]?.message).toContain('Operation not permitted');
    remove('fail');
    limiter.check('192.0.2.2');
    await feed.close();
    expect([calls().length, errors.length]).toEqual([2, 1]);
  });

  test('reports a program that does not exist', async () => {
    const limiter = strict();
    const errors: unknown[] = [];
    const onError = (error: unknown) => errors.push(error);
    const feed = banInNftables({ limiter, onError, command: '/nonexistent/nft' });
    limiter.check('192.0.2.1');
    await feed.close();
    expect(errors).toMatchObject([{ code: 'ENOENT' }]);
  });
});

describe.skipIf(process.platform === 'win32')('banInCrowdSec', () => {
  const importing = ['decisions', 'import', '--input', '-', '--format', 'json'];

  test('imports bans as decisions, and deletes its own decisions of a lifted ban', async () => {
    const { feed, calls, errors } = follow(banInCrowdSec, { limiter: new RateLimiter() });
    feed.ban('192.0.2.1', 59.5);
    feed.ban('2001:db8::/64', Infinity);
    feed.ban('alice', 60);
    feed.unban('192.0.2.2');
    feed.unban('2001:db8:1::/64');
    await feed.close();
    const [first, ...others] = calls();
    expect(first?.args).toEqual(importing);
    const decision = { reason: 'relay-limiter', type: 'ban' };
    expect(JSON.parse(first?.input ?? '')).toEqual([
      { ...decision, duration: '60s', scope: 'Ip', value: '192.0.2.1' },
      { ...decision, duration: '315360000s', scope: 'Range', value: '2001:db8::/64' },
    ]);
    const deleting = ['decisions', 'delete', '--origin', 'cscli-import'];
    expect(others).toEqual([
      { args: [...deleting, '--ip', '192.0.2.2'], input: '' },
      { args: [...deleting, '--range', '2001:db8:1::/64'], input: '' },
    ]);
    expect(errors).toEqual([]);
  });

  test('imports a ban that a check began, and reports each call that failed', async () => {
    const limiter = strict();
    const { feed, calls, errors, create } = follow(banInCrowdSec, { limiter });
    create('fail');
    limiter.check('192.0.2.1');
    feed.unban('192.0.2.2');
    await feed.close();
    expect(calls().map(({ args }) => args[1])).toEqual(['import', 'delete']);
    expect(errors.length).toBe(2);
  });
});
