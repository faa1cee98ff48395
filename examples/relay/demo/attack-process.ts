// Runs the attackers in a separate process, so that they slow honest peers down only through the relay.

import { attack } from './attackers.js';
import type { FromAttackers, LoadConfig } from './messages.js';
import { receiveCommand, sendToParent, work } from './worker.js';

await work<LoadConfig>(async (config) => {
  sendToParent<FromAttackers>({ kind: 'ready' });
  await receiveCommand('go');
  const attackers = attack(config);
  await receiveCommand('stop');
  const report = attackers.map((attacker) => attacker.finish());
  sendToParent<FromAttackers>({ kind: 'report', report });
});
