#!/usr/bin/env node
// `npx relay-limiter`: prints which engine runs on this machine, and compares the results of both engines; with `shared`,
// what shared tables there are (shared.ts).

import { loadNative } from '#native';
import { invalidValue, type LimiterError } from '../common/errors.js';
import { VERSION } from '../common/version.js';
import type { NativeBinary } from '../engine/native.js';
import { type EngineInfo, engineInfo, environmentVariable } from '../engine/select.js';
import { json } from './json.js';
import { type SelfCheck, type SelfCheckLimit, selfCheck } from './self-check.js';
import { SHARED_USAGE, sharedCommand } from './shared.js';

const USAGE = `relay-limiter ${VERSION}: prints which engine runs and why, and checks its results.

  npx relay-limiter          prints text
  npx relay-limiter --json   prints JSON

${SHARED_USAGE}
The first two compare the two engines for two seconds. Environment variables:

  RELAY_LIMITER_OPERATIONS=n   compare at least n operations instead
  RELAY_LIMITER_SEED=n         repeat the comparison with this seed
  RELAY_LIMITER_ENGINE=name    the default engine: auto, native or js

The exit code is 1 after an error, if the engines differ, if a native binary exists but does not load, or if the engine
of RELAY_LIMITER_ENGINE is unavailable.
`;
const SECONDS = 2;
const SEED = 'RELAY_LIMITER_SEED';
const OPERATIONS = 'RELAY_LIMITER_OPERATIONS';

interface Report extends EngineInfo {
  runtime: string;
  platform: string;
  /** The state of the native binary, whichever engine is the default. */
  binary: { state: NativeBinary['state']; path: string | undefined; reason: string | undefined };
  /** null without the native engine: there is nothing to compare. */
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

/** Reads an environment variable that is a whole number; undefined if it is unset or empty. */
function wholeNumber(name: string): number | undefined {
  const given = environmentVariable(name);
  if (given === undefined || given === '') return undefined;
  if (/^\d+$/.test(given) && Number(given) < 2 ** 32) return Number(given);
  throw invalidValue('ERR_LIMITER_OPTION', name, given, 'a whole number below 2^32');
}

/** Bun and Deno also set `versions.node`, so their own versions come first. */
function runtime(): string {
  const { bun, deno, node } = process.versions;
  if (bun !== undefined) return `Bun ${bun}`;
  return deno === undefined ? `Node ${node}` : `Deno ${deno}`;
}

function reportText({
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
self-check  ${checkText(selfCheck)}
`;
}

function checkText(check: SelfCheck | null): string {
  if (check === null) return 'skipped: there is no native engine to compare with';
  const { agreed, difference, seed } = check;
  const operations = `${agreed.toLocaleString('en')} random operations, seed ${seed}`;
  if (difference === undefined) return `passed: both engines agreed on ${operations}`;
  return `FAILED after ${operations}
            ${difference.operation}
            native  ${difference.native}
            js      ${difference.js}`;
}

function main(args: string[]): void {
  const [first, ...more] = args;
  if (first === '--help' || first === '-h') {
    process.stdout.write(USAGE);
    return;
  }
  const asJson = args.includes('--json');
  try {
    const text = first === 'shared' ? sharedCommand(more) : reportCommand(args);
    if (text === undefined) process.stderr.write(USAGE);
    else process.stdout.write(text);
    if (text === undefined) process.exitCode = 1;
  } catch (error) {
    const { code, message } = error as LimiterError;
    if (asJson) process.stdout.write(json({ version: VERSION, error: { code, message } }));
    else process.stderr.write(`relay-limiter ${VERSION}: ${message}\n`);
    process.exitCode = 1;
  }
}

/** Returns what to print, and sets the exit code. Undefined if the arguments are not accepted. */
function reportCommand([flag, ...more]: string[]): string | undefined {
  if ((flag !== undefined && flag !== '--json') || more.length > 0) return undefined;
  const result = report();
  if (result.selfCheck?.difference !== undefined || result.binary.state === 'broken') {
    process.exitCode = 1;
  }
  return flag === '--json' ? json(result) : reportText(result);
}

main(process.argv.slice(2));
