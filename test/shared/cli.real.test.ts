// `npx relay-limiter shared`: what it prints about tables, and what it removes.

import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type LimiterError, removeShared, type SharedTable } from 'relay-limiter';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { sharedCommand } from '../../dist/cli/shared.js';
import { sharedNames, sharedPathOf } from '../../dist/engine/shared-paths.js';
import { TESTS_NATIVE } from '../support/limiters.js';
import { ROOT } from '../support/processes.js';
import { newName } from './support/members.js';
import { opened } from './support/opened.js';

const PROGRAM = join(ROOT, 'dist/cli/index.js');

/** Runs the command in a process. */
function command(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, 'shared', ...args], {
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}

/** What the command prints. */
function printed(...args: string[]): string {
  return sharedCommand(args) ?? 'usage';
}

describe.runIf(TESTS_NATIVE)('npx relay-limiter shared', () => {
  let name = '';
  beforeEach(() => {
    name = newName();
  });

  function table() {
    const options = { interval: 1e6, violationBanThreshold: 3, maxPeers: 1000, shared: name };
    const limiter = opened('OrderbookRateLimiter', options);
    onTestFinished(() => void removeShared(name));
    limiter.check('alice');
    // A key that would clear the screen.
    for (const key of ['mallory', 'mallory', 'eve\x1b[2J']) {
      limiter.check(key);
      limiter.check(key);
    }
    limiter.ban('mallory', 600);
    return limiter;
  }

  test('lists all tables in columns', () => {
    table();
    const { status, stdout, stderr } = command();
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const [head, ...rows] = stdout.split('\n');
    const row = rows.find((each) => each.startsWith(`${name} `));
    expect(row).toMatch(
      /^\S+ +OrderbookRateLimiter +3 +1,000 +\d+\.\d MiB +1 +\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ$/,
    );
    // Each column ends or begins where its title does.
    for (const title of ['limiter', 'created']) {
      expect(row?.[(head as string).indexOf(title) - 1]).toBe(' ');
      expect(row?.[(head as string).indexOf(title)]).not.toBe(' ');
    }
    for (const title of ['peers', 'of', 'size', 'attached']) {
      const end = (head as string).indexOf(title) + title.length;
      expect(row?.slice(end - 1, end + 1)).toMatch(/\S /);
    }
  });

  test('lists files that are no tables with the reason', () => {
    const path = sharedPathOf(name);
    writeFileSync(path, 'something else', { mode: 0o600 });
    const { message } = errorOf(name);
    expect(message).toContain(`the shared file ${path} cannot be used: `);
    expect(printed().split('\n')).toContainEqual(
      expect.stringMatching(new RegExp(`^${name} +the shared file .* cannot be used: `)),
    );
    const error = { code: 'ERR_LIMITER_SHARED', message };
    expect(JSON.parse(printed('--json'))).toContainEqual({ name, error });
    expect(errorOf('--remove', name).message).toContain(
      `the shared file ${path} cannot be removed`,
    );
    expect(sharedNames()).toContain(name);
    rmSync(path);
  });

  test('shows one table, by its name or its path', () => {
    const limiter = table();
    const { path } = limiter.shared as SharedTable;
    const stdout = printed(name);
    expect(stdout).toMatch(
      new RegExp(`^name +${name}\nlimiter +OrderbookRateLimiter\npath +${path}\ncreated +\\d{4}-`),
    );
    expect(stdout).toMatch(/^limits +interval 1000000\n +violationBanThreshold 3\n/m);
    expect(stdout).toMatch(/^peers +3 of 1,000: 0\.3%$/m);
    expect(stdout).toMatch(new RegExp(`^attached +process ${process.pid} since \\d{4}-`, 'm'));
    expect(stdout).toMatch(/^violations +4\n +3 {2}"mallory"\n +1 {2}"eve\\u001b\[2J"\nbans/m);
    expect(stdout).toMatch(/^bans +1\n +\d{3} s {2}"mallory"\n$/m);
    expect(stdout).not.toContain('\x1b');
    expect(printed(path)).toContain(`name        ${path}\n`);
    expect(limiter.shared?.attached).toBe(1);
  });

  test('prints JSON that begins as limiter.shared does', () => {
    const limiter = table();
    const json = JSON.parse(printed(name, '--json'));
    expect(json).toMatchObject({
      ...limiter.shared,
      limiter: 'OrderbookRateLimiter',
      config: { interval: 1e6, maxPeers: 1000 },
      peers: 3,
      totalViolations: 4,
      topViolators: [
        ['mallory', 3],
        ['eve\x1b[2J', 1],
      ],
      bans: { count: 1, bans: [['mallory', expect.any(Number)]] },
    });
    expect(JSON.parse(printed('--json'))).toContainEqual({
      ...json,
      bans: expect.objectContaining({ count: 1 }),
    });
  });

  test('removes a table, which those who have it keep', () => {
    const limiter = table();
    expect(command('--remove', name)).toEqual({
      status: 0,
      stdout: `removed ${name}\n`,
      stderr: '',
    });
    expect(sharedNames()).not.toContain(name);
    expect(limiter.isBanned('mallory')).toBe(true);
    expect(limiter.shared?.detached).toBe(true);
  });

  test.each([
    [['absent-table'], /the table must be one that exists, got "absent-table"/],
    [['--remove', 'absent-table'], /the table must be one that exists, got "absent-table"/],
    [['a/b'], /shared must be a name .* got "a\/b"/],
  ])('throws for the arguments %j', (args, reason) => {
    expect(errorOf(...args).message).toMatch(reason);
  });

  test('exits with 1 after an error, and prints how it is used for other arguments', () => {
    const failed = command('absent-table');
    expect(failed).toMatchObject({ status: 1, stdout: '' });
    expect(failed.stderr).toMatch(/^relay-limiter .*: the table must be one that exists/);
    const wrong = command('--remove');
    expect(wrong).toMatchObject({ status: 1, stdout: '' });
    expect(wrong.stderr).toContain('npx relay-limiter shared --remove NAME');
    for (const args of [
      ['a', 'b'],
      ['--all'],
      ['--remove', 'a', '--json'],
      ['--remove', 'a', 'b'],
    ]) {
      expect(printed(...args), args.join(' ')).toBe('usage');
    }
  });
});

function errorOf(...args: string[]): LimiterError {
  try {
    return Object.assign(new Error(printed(...args)), { code: 'ERR_LIMITER_OPTION' } as const);
  } catch (error) {
    return error as LimiterError;
  }
}
