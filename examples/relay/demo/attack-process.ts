// The attackers in a process of their own, so that they cost honest peers no time but the relay's.

import { attack } from './attackers.js';
import type { FromAttackers, LoadConfig } from './messages.js';
import { tell, told, work } from './worker.js';

await work<LoadConfig>(async (config) => {
  tell<FromAttackers>({ kind: 'ready' });
  await told('go');
  const attackers = attack(config);
  await told('stop');
  const report = attackers.map((attacker) => attacker.finish());
  tell<FromAttackers>({ kind: 'report', report });
});
