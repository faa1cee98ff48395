// `npm run demo:fleet`: four relays, one limit, a flood, and a store that is stopped in the middle.

import { setTimeout as sleep } from 'node:timers/promises';
import { boundBar } from '../bound-bar.js';
import { runCommand } from '../demonstration.js';
import { interruption } from '../interruption.js';
import { cutSeconds } from './bound.js';
import { type Flags, HELP, readFlags } from './flags.js';
import { Fleet } from './fleet.js';
import { machineSeconds } from './messages.js';
import { watch } from './screen.js';
import { findServer, INSTALL_ADVICE, StoreServer } from './server.js';
import { failures, most, type Outcome, summary } from './summary.js';

const RELAYS = 4;
const LIMIT = { rateLimit: 100, burstLimit: 200 };
const STEADY_RATE = 10;
const POLL_MS = 50;
/** The longest time that a part of the demonstration waits for an admitted message of the flooder. */
const MAX_WAIT_SECONDS = 60;

const print = (text: string) => console.log(text);

/** Runs the demonstration and prints the summary. Resolves with the exit code. */
async function demonstrate(flags: Flags): Promise<number> {
  const given = process.env['REDIS_URL'];
  const own = given ? undefined : await startServer();
  try {
    const url = given || (own as StoreServer).url;
    const outcome = await runFleet(flags, url, own);
    print(`${boundBar(outcome.admissions.length, most(outcome) + outcome.shared)}\n`);
    print(summary(outcome));
    return failures(outcome).length === 0 ? 0 : 1;
  } finally {
    await own?.close();
  }
}

function startServer(): Promise<StoreServer> {
  const program = findServer();
  if (program === undefined) throw new Error(`there is no redis-server: ${INSTALL_ADVICE}`);
  return StoreServer.start(program);
}

async function runFleet(
  { seconds, flood }: Flags,
  url: string,
  own: StoreServer | undefined,
): Promise<Outcome> {
  let fail: (error: Error) => void = () => {};
  const failed = new Promise<never>((_, reject) => {
    fail = reject;
  });
  // Every wait is raced against `failed`; between two waits its rejection must not count as unhandled.
  failed.catch(() => {});
  const fleet = new Fleet(fail);
  let phase = 'the store is up';
  let unwatch: (() => void) | undefined;
  const pause = (milliseconds: number) =>
    Promise.race([sleep(milliseconds, undefined, { signal: interruption }), failed]);
  /** Waits for a part of the time, and until a message of the flooder is admitted, which a busy machine delays. */
  const wait = async (share: number) => {
    const start = machineSeconds();
    const isOver = () => machineSeconds() - start > seconds * share;
    const isSeen = () => fleet.admissions.some(({ from = 0 }) => from > start);
    const isHopeless = () => machineSeconds() - start > MAX_WAIT_SECONDS;
    while (!(isOver() && (isSeen() || isHopeless()))) await pause(POLL_MS);
  };
  try {
    const prefix = `demo-fleet-${process.pid}`;
    const ports = await Promise.race([
      fleet.start(RELAYS, { url, prefix, nodes: RELAYS, ...LIMIT }),
      failed,
    ]);
    const start = machineSeconds();
    print(
      `${RELAYS} relays share a limit of ${LIMIT.rateLimit} messages per second and peer, with a burst of ${LIMIT.burstLimit}.`,
    );
    print(`One peer floods all relays with ${flood} messages per second in total. One steady peer`);
    print(
      `per relay sends ${STEADY_RATE} per second, covered by a lease. The table counts the flood.\n`,
    );
    const title = () => `${(machineSeconds() - start).toFixed(0).padStart(3)} s: ${phase}`;
    unwatch = watch(process.stdout, title, fleet.counts);
    fleet.flood({ ports, rate: flood / RELAYS, steadyRate: STEADY_RATE });

    await wait(0.4);
    const from = machineSeconds();
    if (own !== undefined) {
      phase = 'the store is stopped: a quarter of the rate each';
      await own.kill();
    }
    await wait(0.2);
    if (own !== undefined) {
      await own.start();
      phase = 'the store is up again, and empty';
    }
    const to = machineSeconds();
    await wait(0.4);
    const { counts, admissions } = fleet;
    const end = machineSeconds();
    const cuts = fleet.cuts.map((cut) => ({ ...cut, to: Math.min(cut.to, end) }));
    const sum = (field: 'refused' | 'calls') =>
      counts.reduce((total, one) => total + one[field], 0);
    return {
      ...LIMIT,
      admissions: [...admissions],
      refused: sum('refused'),
      calls: sum('calls'),
      seconds: end - start,
      shared: LIMIT.rateLimit * cutSeconds(cuts, RELAYS),
      away: own === undefined ? undefined : { from, to },
    };
  } finally {
    unwatch?.();
    await fleet.stop();
  }
}

process.exitCode = await runCommand('demo:fleet', HELP, readFlags, demonstrate);
