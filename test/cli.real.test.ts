// `npx relay-limiter`, on copies of the package: what it prints, and that its self-check can fail.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { selfCheck } from '../dist/cli/self-check.js';
import { VERSION } from '../dist/common/version.js';
import { TESTS_NATIVE } from './support/limiters.js';
import { packageCopy, ROOT, run } from './support/processes.js';

const BINARY = 'build/Release/relay_limiter.node';

let copy: ReturnType<typeof packageCopy>;
beforeEach(() => {
  copy = packageCopy();
});
afterEach(() => copy.remove());

/** Runs the command; its self-check does as few operations as it can. */
function command(args: string[] = [], env: Record<string, string> = {}) {
  const script = `
    process.argv = ['node', 'relay-limiter', ...${JSON.stringify(args)}];
    await import(${JSON.stringify(`file://${copy.folder}/dist/cli/index.js`)});
  `;
  return run(script, { folder: copy.folder, env: { RELAY_LIMITER_OPERATIONS: '1', ...env } });
}

test.runIf(TESTS_NATIVE)(
  'npx relay-limiter prints which engine runs and why, and compares both',
  () => {
    copy.copy(BINARY, BINARY);
    const { status, stdout, stderr } = command();
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toContain(`relay-limiter ${VERSION}`);
    expect(stdout).toContain('engine      native: a native binary is available');
    expect(stdout).toContain(`binary      ${join(copy.folder, BINARY)}`);
    // A round of 5,000 for each limiter.
    expect(stdout).toMatch(
      /self-check {2}passed: both engines agreed on 20,000 random operations, seed \d+$/,
    );
  },
);

test.runIf(TESTS_NATIVE)(
  'npx relay-limiter compares the engines for at least RELAY_LIMITER_OPERATIONS operations',
  () => {
    copy.copy(BINARY, BINARY);
    const { stdout } = command(['--json'], { RELAY_LIMITER_OPERATIONS: '50000' });
    expect(JSON.parse(stdout).selfCheck).toMatchObject({ agreed: 60_000 });
  },
);

test.runIf(TESTS_NATIVE)('selfCheck does at least one round per limiter', () => {
  expect(selfCheck({ seconds: 0 }, 1)).toEqual({ seed: 1, agreed: 20_000 });
});

test.runIf(TESTS_NATIVE)(
  'npx relay-limiter --json prints the report as JSON, whichever engine is the default',
  () => {
    copy.copy(BINARY, BINARY);
    const { status, stdout } = command(['--json'], { RELAY_LIMITER_ENGINE: 'js' });
    const report = JSON.parse(stdout);
    expect(status).toBe(0);
    expect(report).toMatchObject({
      version: VERSION,
      engine: 'js',
      reason: 'RELAY_LIMITER_ENGINE asks for js',
      platform: `${process.platform}-${process.arch}`,
      runtime: `Node ${process.versions.node}`,
      selfCheck: { seed: expect.any(Number) },
    });
    expect(report.selfCheck.agreed).toBe(20_000);
  },
);

test.runIf(TESTS_NATIVE)(
  'npx relay-limiter finds engines that differ by a rounding, exits with 1, and repeats the result of a seed',
  () => {
    copy.copy(BINARY, BINARY);
    const file = 'dist/tables/arithmetic.js';
    const right = readFileSync(join(ROOT, file), 'utf8');
    const wrong = right.replaceAll('(cost - tokens) / rate', '(cost - tokens) * (1 / rate)');
    expect(wrong).not.toBe(right);
    copy.write(file, wrong);
    const { status, stdout } = command([], { RELAY_LIMITER_SEED: '1' });
    expect(status).toBe(1);
    expect(stdout).toMatch(
      /self-check {2}FAILED after .* seed 1\n +RateLimiter\.check\(.*\n +native .*\n +js /,
    );
    expect(command([], { RELAY_LIMITER_SEED: '1' }).stdout).toBe(stdout);
  },
);

test.runIf(TESTS_NATIVE).each(['RELAY_LIMITER_SEED', 'RELAY_LIMITER_OPERATIONS'])(
  'npx relay-limiter exits with 1 if %s is not a whole number',
  (name) => {
    copy.copy(BINARY, BINARY);
    const { status, stderr } = command([], { [name]: '-1' });
    expect(status).toBe(1);
    expect(stderr).toContain(`${name} must be a whole number below 2^32, got "-1"`);
  },
);

test.each(['', 'js'])(
  'npx relay-limiter names a binary that does not load, with RELAY_LIMITER_ENGINE=%s',
  (wish) => {
    const engine = 'js';
    copy.write(BINARY, 'not a binary');
    const env = { RELAY_LIMITER_ENGINE: wish };
    const path = join(copy.folder, BINARY);
    const words = command([], env);
    expect(words.status).toBe(1);
    expect(words.stdout).toContain(`engine      ${engine}: `);
    expect(words.stdout).toContain(`binary      ${path} failed to load: `);
    expect(words.stdout).toContain('self-check  skipped');
    const { status, stdout } = command(['--json'], env);
    expect(status).toBe(1);
    const reason = expect.stringContaining(`${path} failed to load: `);
    expect(JSON.parse(stdout)).toMatchObject({ engine, binary: { state: 'broken', path, reason } });
  },
);

test('npx relay-limiter --json prints the error if the requested engine is unavailable', () => {
  copy.write(BINARY, 'not a binary');
  const { status, stdout } = command(['--json'], { RELAY_LIMITER_ENGINE: 'native' });
  expect(status).toBe(1);
  const message = expect.stringContaining(`${join(copy.folder, BINARY)} failed to load: `);
  expect(JSON.parse(stdout)).toEqual({
    version: VERSION,
    error: { code: 'ERR_LIMITER_ENGINE', message },
  });
});

test('npx relay-limiter skips the self-check without the native engine', () => {
  const { status, stdout } = command();
  expect(status).toBe(0);
  expect(stdout).toContain(`engine      js: no native binary for ${process.platform}`);
  expect(stdout).toContain(`binary      no native binary for ${process.platform}`);
  expect(stdout).toContain('self-check  skipped');
  const { selfCheck } = JSON.parse(command(['--json']).stdout);
  expect(selfCheck).toBeNull();
});

test('npx relay-limiter exits with 1 for an unknown engine or an unknown flag', () => {
  const unknown = command([], { RELAY_LIMITER_ENGINE: 'rust' });
  expect(unknown.status).toBe(1);
  expect(unknown.stderr).toContain('must be auto, native or js, got "rust"');
  const flag = command(['--fast']);
  expect(flag.status).toBe(1);
  expect(flag.stderr).toContain('npx relay-limiter --json');
  expect(command(['--help'])).toMatchObject({ status: 0, stderr: '' });
});
