// The honest peers in a process of their own, so that nothing but the relay delays them.

import { HonestCrowd } from './honest.js';
import type { FromHonest, LoadConfig } from './messages.js';
import { REPORT_EVERY, tell, told, work } from './worker.js';

/** Milliseconds. */
const RECENT = 1000;

await work<LoadConfig>(async (config) => {
  const crowd = new HonestCrowd();
  await crowd.join(config);
  tell<FromHonest>({ kind: 'ready' });
  await told('go');
  crowd.talk();
  const timer = setInterval(() => {
    tell<FromHonest>({ kind: 'latency', latency: crowd.recentLatency(RECENT) });
  }, REPORT_EVERY);
  await told('stop');
  clearInterval(timer);
  tell<FromHonest>({ kind: 'report', report: await crowd.finish() });
});
