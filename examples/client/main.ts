// `npm run demo:client`: three servers with limits, and two clients that do the same work.

import { INTERRUPTED, interruption } from '../interruption.js';
import { limitedClient, naiveClient } from './clients.js';
import { type Flags, HELP, readFlags, WrongFlag } from './flags.js';
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
    const advice = error instanceof WrongFlag ? ' (npm run demo:client -- --help)' : '';
    console.error(`demo:client: ${error instanceof Error ? error.message : error}${advice}`);
    return error instanceof WrongFlag ? 2 : 1;
  }
}

/** Both clients and the summary; resolves with the exit code. */
async function demonstrate({ requests }: Flags): Promise<number> {
  const phase = (title: string, client: typeof limitedClient) =>
    runPhase(client, requests, interruption, watch(title, process.stdout));
  print(`${requests} requests to three servers on this machine, first with relay-limiter, then by`);
  print('a naive client that waits as long as it is told where it is refused.\n');
  const outcome = {
    limited: await phase('relay-limiter', limitedClient),
    naive: await phase('naive client', naiveClient),
  };
  print(summary(outcome));
  return failures(outcome).length === 0 ? 0 : 1;
}

process.exitCode = await main();
