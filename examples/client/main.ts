// `npm run demo:client`: three servers with limits, and two clients that do the same work.

import { runCommand } from '../demonstration.js';
import { interruption } from '../interruption.js';
import { measureRate, scaleOf } from './calibrate.js';
import { limitedClient, naiveClient } from './clients.js';
import { type Flags, HELP, readFlags } from './flags.js';
import { PUNISHMENT } from './limited-node.js';
import { nodesAt, TOTAL_RATE } from './nodes.js';
import { runPhase } from './phase.js';
import { watch } from './screen.js';
import { failures, summary } from './summary.js';

/** The work of a client at scale 1: that of about eight seconds. */
const REQUESTS = 3000;

const print = (text: string) => console.log(text);

/** Runs both clients and prints the summary. Resolves with the exit code. */
async function demonstrate(flags: Flags): Promise<number> {
  const scale = flags.requests === undefined ? scaleOf(await measureRate(interruption)) : 1;
  const nodes = nodesAt(scale);
  const requests = flags.requests ?? Math.round(REQUESTS * scale);
  const phase = (title: string, client: typeof limitedClient) =>
    runPhase(client, nodes, requests, interruption, watch(title, process.stdout));
  const allowed = Math.round(TOTAL_RATE * scale);
  print(`The three servers allow ${allowed} requests per second.`);
  print(`They punish a client that ignores a 429: it waits ${PUNISHMENT} seconds longer.`);
  print(`${requests} requests, first with relay-limiter, then with a naive client, in which each`);
  print('request waits only for its own refusal.\n');
  const outcome = {
    limited: await phase('relay-limiter', limitedClient),
    naive: await phase('naive client', naiveClient),
  };
  print(summary(outcome));
  return failures(outcome).length === 0 ? 0 : 1;
}

process.exitCode = await runCommand('demo:client', HELP, readFlags, demonstrate);
