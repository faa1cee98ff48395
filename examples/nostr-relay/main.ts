// `npm run demo:nostr`: a Nostr relay with the limits of limits.json, in one process or several, under load or alone. SIGHUP
// reads the file again.

import { setInterval } from 'node:timers/promises';
import { removeShared } from 'relay-limiter';
import { runCommand } from '../demonstration.js';
import { interruption } from '../interruption.js';
import { openLog } from './admissions.js';
import { type Flags, HELP, readFlags } from './flags.js';
import { type LimitsFile, RelayLimits, readLimits } from './limits.js';
import { type LoadReport, runLoad } from './load.js';
import { HEADER, Refusals } from './refusals.js';
import { NostrRelay } from './relay.js';
import { RelayWorkers } from './workers.js';

const print = (line: string) => console.log(line);

/** The relay, in this process or in workers. */
interface Running {
  readonly port: number;
  /** Passes on limits that are in force. */
  setLimits(file: LimitsFile): void;
  stop(): Promise<void> | void;
}

/** Runs the relay, alone or under load. Resolves with the exit code. */
async function run(flags: Flags): Promise<number> {
  const { config, engine, workers } = flags;
  const file = readLimits(config);
  const shared = workers > 1 ? `nostr-relay-${process.pid}` : undefined;
  const limits = new RelayLimits(file, { engine, shared });
  try {
    return await runWith(limits, file, flags, shared);
  } finally {
    if (shared !== undefined) removeShared(shared);
    limits.limiter.close();
  }
}

async function runWith(
  limits: RelayLimits,
  file: LimitsFile,
  flags: Flags,
  shared: string | undefined,
): Promise<number> {
  const { port, config, log, engine, serverOnly, seconds } = flags;
  const refusals = new Refusals();
  const trustedProxies = flags.trustedProxies ?? (serverOnly ? undefined : 'loopback');
  const ended = new AbortController();
  const signal = AbortSignal.any([interruption, ended.signal]);
  let relay: Running | undefined;
  let version = 1;
  const reload = () => {
    try {
      const changed = readLimits(config);
      limits.update(changed);
      relay?.setLimits(changed);
      version += 1;
      print(`limits, version ${version}: ${Object.keys(limits.rules).length} rules`);
    } catch (error) {
      print(`limits, version ${version} stays: ${error instanceof Error ? error.message : error}`);
    }
  };
  const startWorkers = async (): Promise<Running> => {
    const started = new RelayWorkers({
      config: { port, log, engine, shared, trustedProxies },
      limits: file,
      onRefusals: refusals.merge,
      onReload: reload,
      onFailure: (error) => ended.abort(error),
      print,
    });
    // Before they have started: they can fail, and the limits can change meanwhile.
    relay = started;
    await untilAborted(started.start(flags.workers), signal);
    return started;
  };
  const startHere = async (): Promise<Running> => {
    const here = await NostrRelay.listen({
      port,
      limits,
      trustedProxies,
      onRefusal: refusals.add,
      onAdmission: openLog(log),
    });
    return { port: here.port, setLimits: () => {}, stop: () => here.close() };
  };
  try {
    process.on('SIGHUP', reload);
    relay = await (shared === undefined ? startHere() : startWorkers());
    print(`listening on ws://127.0.0.1:${relay.port}; Ctrl-C ends it`);
    print(`kill -HUP ${process.pid} reads ${config} again`);
    const table = show(refusals, signal);
    if (serverOnly) {
      await table;
      ended.signal.throwIfAborted();
      return 0;
    }
    const report = await runLoad(relay.port, seconds, AbortSignal.any([signal]));
    print(summary(report));
    return isProtected(report) ? 0 : 1;
  } catch (error) {
    throw ended.signal.aborted ? ended.signal.reason : error;
  } finally {
    ended.abort();
    await relay?.stop();
  }
}

/** Rejects with the signal's reason if it is aborted first. */
async function untilAborted<Value>(promise: Promise<Value>, signal: AbortSignal): Promise<Value> {
  signal.throwIfAborted();
  const aborted = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
  return Promise.race([promise, aborted]);
}

/** Prints the refusals of each second until `signal` is aborted. */
async function show(refusals: Refusals, signal: AbortSignal): Promise<void> {
  let isHeaded = false;
  try {
    for await (const _ of setInterval(1000, undefined, { signal })) {
      const lines = refusals.tick();
      if (lines.length > 0 && !isHeaded) lines.unshift(HEADER);
      isHeaded ||= lines.length > 0;
      for (const line of lines) print(line);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

function summary({ honest, flooder }: LoadReport): string {
  return [
    `honest authors: ${honest.accepted} of ${honest.published} notes accepted`,
    `the flooder: ${flooder.accepted} of ${flooder.published} notes accepted, ` +
      `closed ${flooder.closed} times, ${flooder.refused} connections refused`,
  ].join('\n');
}

function isProtected({ honest, flooder }: LoadReport): boolean {
  return honest.accepted === honest.published && flooder.closed > 0 && flooder.refused > 0;
}

process.exitCode = await runCommand('demo:nostr', HELP, readFlags, run);
