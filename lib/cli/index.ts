#!/usr/bin/env node
// `npx relay-limiter`: which engine runs here, and whether it answers right.

import { loadNative } from '#native';
import { type LimiterError, refused } from '../common/errors.js';
import { VERSION } from '../common/version.js';
import type { NativeBinary } from '../engine/native.js';
import { type EngineInfo, engineInfo, environmentVariable } from '../engine/select.js';
import { type SelfCheck, type SelfCheckLimit, selfCheck } from './self-check.js';

const USAGE = `relay-limiter ${VERSION}: which engine runs here, why, and whether it answers right.

  npx relay-limiter          in words
  npx relay-limiter --json   for scripts

Both compare the engines for two seconds, or for at least n operations if RELAY_LIMITER_OPERATIONS=n
says so. RELAY_LIMITER_SEED=n repeats a comparison. The exit code is 1 if they differ, if a binary is
there that does not load, or if RELAY_LIMITER_ENGINE names an engine that is not there.
`;
const SECONDS = 2;
const SEED = 'RELAY_LIMITER_SEED';
const OPERATIONS = 'RELAY_LIMITER_OPERATIONS';

interface Report extends EngineInfo {
  runtime: string;
  platform: string;
  /** What became of the native binary, whichever engine is the default. */
  binary: { state: NativeBinary['state']; path: string | undefined; reason: string | undefined };
  /** null where the native engine is not there: there is nothing to compare. */
  selfCheck: SelfCheck | null;
}

function report(): Report {
  const { state, path, reason } = { path: undefined, reason: undefined, ...loadNative() };
  return {
    ...engineInfo(),
    runtime: runtime(),
    platform: `${process.platform}-${process.arch}`,
    binary: { state, path, reason },
    selfCheck: state === 'loaded' ? selfCheck(limit(), seed()) : null,
  };
}

function seed(): number {
  return wholeNumber(SEED) ?? Math.floor(Math.random() * 2 ** 32);
}

function limit(): SelfCheckLimit {
  const operations = wholeNumber(OPERATIONS);
  return operations === undefined ? { seconds: SECONDS } : { operations };
}

/** That of an environment variable; undefined where it is not set. */
function wholeNumber(name: string): number | undefined {
  const given = environmentVariable(name);
  if (given === undefined || given === '') return undefined;
  if (/^\d+$/.test(given) && Number(given) < 2 ** 32) return Number(given);
  throw refused('ERR_LIMITER_OPTION', name, given, 'a whole number below 2^32');
}

/** Bun and Deno pass for Node as well, and say who they are. */
function runtime(): string {
  const { bun, deno, node } = process.versions;
  if (bun !== undefined) return `Bun ${bun}`;
  return deno === undefined ? `Node ${node}` : `Deno ${deno}`;
}

function inWords({
  version,
  engine,
  reason,
  binary,
  runtime,
  platform,
  selfCheck,
}: Report): string {
  return `relay-limiter ${version}
engine      ${engine}: ${reason}
binary      ${binary.reason ?? binary.path}
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
  const asJson = flag === '--json';
  try {
    const found = report();
    process.stdout.write(asJson ? json(found) : inWords(found));
    if (found.selfCheck?.difference !== undefined || found.binary.state === 'broken') {
      process.exitCode = 1;
    }
  } catch (error) {
    const { code, message } = error as LimiterError;
    if (asJson) process.stdout.write(json({ version: VERSION, error: { code, message } }));
    else process.stderr.write(`relay-limiter ${VERSION}: ${message}\n`);
    process.exitCode = 1;
  }
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

main(process.argv.slice(2));
