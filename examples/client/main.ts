// `npm run demo:client`: three servers with limits, and two clients that do the same work.

import { failed } from '../command-line.js';
import { INTERRUPTED, interruption } from '../interruption.js';
import { limitedClient, naiveClient } from './clients.js';
import { type Flags, HELP, readFlags } from './flags.js';
import { runPhase } from './phase.js';
import { watch } from './screen.js';
import { failures, summary } from './summary.js';

const print = (text: string) => console.log(text);

async function main(): Promise<number> {
  try {
    const flags = readFlags(process.argv.slice(2));
    if (!flags.help) return await demonstrate(flags);
    print(HELP);
    return 0;
  } catch (error) {
    if (interruption.aborted) return INTERRUPTED;
    return failed('demo:client', 'npm run demo:client -- --help', error);
  }
}

/** Runs both clients and prints the summary. Resolves with the exit code. */
async function demonstrate({ requests }: Flags): Promise<number> {
  const phase = (title: string, client: typeof limitedClient) =>
    runPhase(client, requests, interruption, watch(title, process.stdout));
  print(`${requests} requests to three servers on this machine, first with relay-limiter,`);
  print('then with a naive client, which waits only after a refusal.\n');
  const outcome = {
    limited: await phase('relay-limiter', limitedClient),
    naive: await phase('naive client', naiveClient),
  };
  print(summary(outcome));
  return failures(outcome).length === 0 ? 0 : 1;
}

process.exitCode = await main();
