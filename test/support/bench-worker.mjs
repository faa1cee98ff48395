// A contestant's process as the benchmark might meet it.

import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const [, contestant] = process.argv.slice(2);
process.on('disconnect', () => process.exit());

/** Which round it is: a process of its own for each knows of the others by a file. */
function count() {
  const n = readdirSync(process.env.ROUNDS_FOLDER).length + 1;
  writeFileSync(join(process.env.ROUNDS_FOLDER, String(n)), '');
  return n;
}

const rounds = {
  works: () => process.send({ round: { figures: { ns: count() } } }),
  'throws later': () => process.send({ failed: 'cannot go on' }),
  exits: () => process.exit(7),
};

process.on('message', () => rounds[contestant]());
if (contestant === 'throws') process.send({ failed: 'cannot get ready' });
else process.send({ ready: true });
// Nobody has asked it anything.
if (contestant === 'is killed idle') process.kill(process.pid, 'SIGKILL');
