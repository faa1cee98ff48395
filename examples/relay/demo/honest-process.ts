// Runs the honest peers in a separate process, so that only the relay delays them.

import { HonestCrowd } from './honest.js';
import type { FromHonest, LoadConfig } from './messages.js';
import { REPORT_EVERY, receiveCommand, sendToParent, work } from './worker.js';

/** The period of the reported latency, in milliseconds. */
const RECENT = 1000;

await work<LoadConfig>(async (config) => {
  const crowd = new HonestCrowd();
  await crowd.join(config);
  sendToParent<FromHonest>({ kind: 'ready' });
  await receiveCommand('go');
  crowd.talk();
  const timer = setInterval(() => {
    sendToParent<FromHonest>({ kind: 'progress', progress: crowd.progress(RECENT) });
  }, REPORT_EVERY);
  await receiveCommand('stop');
  clearInterval(timer);
  sendToParent<FromHonest>({ kind: 'report', report: await crowd.finish() });
});
