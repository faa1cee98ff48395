#!/usr/bin/env node
// `npx relay-limiter`: which engine runs here, and whether it answers right.

import { type EngineInfo, engineInfo } from './engine/select.js';
import { RateLimiter } from './rate-limiter.js';
import { type SelfCheck, selfCheck } from './self-check.js';
import { VERSION } from './version.js';

const USAGE = `relay-limiter ${VERSION}: which engine runs here, why, and whether it answers right.

  npx relay-limiter          in words
  npx relay-limiter --json   for scripts

Both compare the engines for two seconds. The exit code is 1 if they differ, or if
RELAY_LIMITER_ENGINE names an engine that is not there.
`;
const SECONDS = 2;

interface Report extends EngineInfo {
  runtime: string;
  platform: string;
  /** null where the native engine is not there: there is nothing to compare. */
  selfCheck: SelfCheck | null;
}

function report(): Report {
  const check = hasNative() ? selfCheck(SECONDS) : null;
  return {
    ...engineInfo(),
    runtime: runtime(),
    platform: `${process.platform}-${process.arch}`,
    selfCheck: check,
  };
}

function hasNative(): boolean {
  try {
    new RateLimiter({ engine: 'native' });
    return true;
  } catch {
    return false;
  }
}

/** Bun and Deno pass for Node as well, and say who they are. */
function runtime(): string {
  const { bun, deno, node } = process.versions;
  if (bun !== undefined) return `Bun ${bun}`;
  return deno === undefined ? `Node ${node}` : `Deno ${deno}`;
}

function inWords({ version, engine, reason, path, runtime, platform, selfCheck }: Report): string {
  return `relay-limiter ${version}
engine      ${engine}: ${reason}
binary      ${path ?? 'none in use'}
runtime     ${runtime}, ${platform}
self-check  ${checkInWords(selfCheck)}
`;
}

function checkInWords(check: SelfCheck | null): string {
  if (check === null) return 'left out: without the native engine there is nothing to compare';
  const { agreed, difference, seed } = check;
  const operations = `${agreed.toLocaleString('en')} random operations, seed ${seed}`;
  if (difference === undefined) return `passed: both engines agreed on ${operations}`;
  return `FAILED after ${operations}
            ${difference.operation}
            native  ${difference.native}
            js      ${difference.js}`;
}

function main(args: string[]): void {
  const [flag, ...more] = args;
  if ((flag !== undefined && flag !== '--json') || more.length > 0) {
    const asked = flag === '--help' || flag === '-h';
    process[asked ? 'stdout' : 'stderr'].write(USAGE);
    process.exitCode = asked ? 0 : 1;
    return;
  }
  try {
    const found = report();
    process.stdout.write(
      flag === '--json' ? `${JSON.stringify(found, null, 2)}\n` : inWords(found),
    );
    if (found.selfCheck?.difference !== undefined) process.exitCode = 1;
  } catch (error) {
    process.stderr.write(`relay-limiter ${VERSION}: ${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}

main(process.argv.slice(2));
