// A contestant's process as the benchmark might meet it.

import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [, contestant] = process.argv.slice(2);
// A process of its own for each round knows of the others by a file.
const counter = join(tmpdir(), `relay-limiter-bench-${process.ppid}`);
process.on('disconnect', () => process.exit());

function count() {
  let n = 1;
  while (existsSync(`${counter}-${n}`)) n += 1;
  writeFileSync(`${counter}-${n}`, '');
  if (n === 3) for (let i = 1; i <= 3; i += 1) rmSync(`${counter}-${i}`);
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
