// `npm run demo:nostr`: a Nostr relay with the limits of limits.json, under load or alone. SIGHUP reads the file again.

import { setInterval } from 'node:timers/promises';
import { runCommand } from '../demonstration.js';
import { interruption } from '../interruption.js';
import { type Flags, HELP, readFlags } from './flags.js';
import { RelayLimits } from './limits.js';
import { type LoadReport, runLoad } from './load.js';
import { HEADER, Refusals } from './refusals.js';
import { NostrRelay } from './relay.js';

const print = (line: string) => console.log(line);

/** Runs the relay, alone or under load. Resolves with the exit code. */
async function run(flags: Flags): Promise<number> {
  const { port, config, engine, serverOnly, seconds } = flags;
  const limits = new RelayLimits(config, engine);
  const refusals = new Refusals();
  const trustedProxies = flags.trustedProxies ?? (serverOnly ? undefined : 'loopback');
  const relay = await NostrRelay.listen({ port, limits, trustedProxies, onRefusal: refusals.add });
  process.on('SIGHUP', () => reload(limits));
  print(`listening on ws://127.0.0.1:${relay.port}; Ctrl-C ends it`);
  print(`kill -HUP ${process.pid} reads ${config} again`);
  const ended = new AbortController();
  const table = show(refusals, AbortSignal.any([interruption, ended.signal]));
  try {
    if (serverOnly) {
      await table;
      return 0;
    }
    const report = await runLoad(relay.port, seconds, interruption);
    print(summary(report));
    return isProtected(report) ? 0 : 1;
  } finally {
    ended.abort();
    relay.close();
    limits.limiter.close();
  }
}

let version = 1;

function reload(limits: RelayLimits): void {
  try {
    limits.reload();
    version += 1;
    print(`limits, version ${version}: ${Object.keys(limits.rules).length} rules`);
  } catch (error) {
    print(`limits, version ${version} stays: ${error instanceof Error ? error.message : error}`);
  }
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
