// `npm start`: the relay under attack, first with its guard off, then on; or the relay alone.

import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { setInterval } from 'node:timers/promises';
import { failed } from '../command-line.js';
import { INTERRUPTED, interruption } from '../interruption.js';
import { serveDashboard } from './dashboard.js';
import { hasManyAddresses, SHARED_ADDRESS } from './demo/addresses.js';
import { type PhaseListener, type PhaseResult, runPhase } from './demo/phase.js';
import { picture } from './demo/picture.js';
import { failures, headline, summary } from './demo/summary.js';
import { LEGEND, Table } from './demo/table.js';
import { serveWaitingPage } from './demo/waiting-page.js';
import { type Flags, HELP, readFlags } from './flags.js';
import { LimitingGuard } from './guard.js';
import { Relay } from './relay.js';

const print = (line: string) => console.log(line);

async function main(): Promise<number> {
  try {
    const flags = readFlags(process.argv.slice(2));
    if (flags.help) print(HELP);
    else if (flags.serverOnly) await serve(flags);
    else return await demonstrate(flags);
    return 0;
  } catch (error) {
    if (interruption.aborted) return INTERRUPTED;
    return failed('relay', 'npm start -- --help lists the flags', error);
  }
}

/** Runs both phases and prints the summary. Resolves with the exit code. */
async function demonstrate(flags: Flags): Promise<number> {
  const oneAddress = flags.oneAddress || !(await hasManyAddresses());
  const waitingPage = await serveWaitingPage(flags.dashboardPort);
  print(`watch it at ${waitingPage.url}`);
  print(`${flags.peers} honest peers and 3 attackers, ${flags.seconds} seconds without limits,`);
  print(`then ${flags.seconds} seconds guarded by relay-limiter.`);
  if (oneAddress) print(`All connect from ${SHARED_ADDRESS}.`);
  print(LEGEND);
  const table = new Table(print);
  const deliveryTimes: Record<'off' | 'on', number[]> = { off: [], on: [] };
  const phase = (guarded: boolean, over?: (result: PhaseResult) => Promise<void>) => {
    const listener: PhaseListener = {
      dashboard(url) {
        // Unless another program has taken the port in between.
        if (url !== waitingPage.url) print(`watch it at ${url}`);
      },
      second(second) {
        if (second.second === 1) table.header();
        table.row(second);
        deliveryTimes[guarded ? 'on' : 'off'].push(second.honest?.latency.p50 ?? Number.NaN);
      },
      over,
    };
    const dashboardPort = waitingPage.port;
    return runPhase({ ...flags, dashboardPort, oneAddress, guarded }, listener, interruption);
  };
  const off = await phase(false);
  await waitingPage.close();
  const on = await phase(true, async (on) => {
    print(summary({ oneAddress, off, on }));
    if (flags.picture !== undefined) {
      const title = headline(off.honest.latency.p50, on.honest.latency.p50);
      writeFileSync(flags.picture, picture(title, deliveryTimes.off, deliveryTimes.on));
    }
    if (flags.keep) await untilInterrupted();
    else print('\nnpm start -- --keep leaves the guarded relay and its dashboard running.');
  });
  return failures({ oneAddress, off, on }).length === 0 ? 0 : 1;
}

async function untilInterrupted(): Promise<void> {
  print('the relay and its page run on; Ctrl-C ends them');
  if (!interruption.aborted) await once(interruption, 'abort');
}

/** Runs only the relay, until it is interrupted. */
async function serve({ port, engine, dashboardPort }: Flags): Promise<void> {
  const guard = new LimitingGuard({ engine });
  const relay = await Relay.listen(port, guard);
  print(`listening on ws://127.0.0.1:${relay.port}; Ctrl-C ends it`);
  const { dashboard, url } = await serveDashboard(guard, dashboardPort);
  print(`watch it at ${url}`);
  const table = new Table(print, false);
  table.header();
  let second = 0;
  try {
    for await (const _ of setInterval(1000, undefined, { signal: interruption })) {
      const counts = relay.counts();
      const { engine } = guard;
      table.row({ guarded: true, engine, second: ++second, counts, honest: undefined });
    }
  } catch (error) {
    if (!interruption.aborted) throw error;
  } finally {
    relay.close();
    dashboard.close();
  }
}

process.exitCode = await main();
