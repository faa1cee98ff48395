// Shared tables of the benchmark's own, which it does not leave behind.

import { existsSync, readdirSync } from 'node:fs';
import { removeShared } from 'relay-limiter';

/** The folder of tables with names. It does not exist on every system. */
const TABLES = '/dev/shm';

/**
 * The name of a table that is removed when this process ends. A process that was killed has left its table: that is
 * removed, too.
 */
export function newTable(): string {
  for (const file of existsSync(TABLES) ? readdirSync(TABLES) : []) {
    const owner = /-bench-(\d+)$/.exec(file)?.[1];
    if (owner !== undefined && !isRunning(Number(owner))) removeShared(`bench-${owner}`);
  }
  const name = `bench-${process.pid}`;
  process.on('exit', () => removeShared(name));
  return name;
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
