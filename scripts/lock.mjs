// A lock that lets one process at a time build in this folder. It is the folder out/.lock, in which one file has the
// process id of the holder as its name. A process that has ended holds nothing, so a killed build blocks no other.

import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const OUT = fileURLToPath(new URL('../out/', import.meta.url));
const LOCK = `${OUT}.lock`;
const POLL_MS = 100;

/**
 * Waits until no other process builds, and keeps others from building until this process ends. Returns at once if its
 * parent process holds the lock.
 */
export async function lockBuild() {
  mkdirSync(OUT, { recursive: true });
  let said = false;
  while (!tryLock()) {
    const holder = holderOf();
    if (holder === process.ppid) return;
    if (holder !== undefined && isAlive(holder)) {
      if (!said) console.log(`relay-limiter: waiting for process ${holder}, which builds here ...`);
      said = true;
    } else {
      release(holder);
    }
    await setTimeout(POLL_MS);
  }
  process.on('exit', () => release(process.pid));
}

/** Moves a folder that names this process to the lock's place: there is no moment at which the lock has no holder. */
function tryLock() {
  const own = mkdtempSync(`${LOCK}-`);
  writeFileSync(`${own}/${process.pid}`, '');
  try {
    renameSync(own, LOCK);
    return true;
  } catch (error) {
    rmSync(own, { recursive: true });
    // Windows says EPERM where others say that a folder is not empty.
    if (!['ENOTEMPTY', 'EEXIST', 'EPERM'].includes(error.code)) throw error;
    return false;
  }
}

/** Returns the holder's process id, or undefined if the lock is free. */
function holderOf() {
  try {
    const [name] = readdirSync(LOCK);
    return name === undefined ? undefined : Number(name);
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Ends the lock of this holder, and of no other: of two processes that find a dead holder, one may hold the lock by now. */
function release(holder) {
  try {
    if (holder !== undefined) rmSync(`${LOCK}/${holder}`, { force: true });
    rmdirSync(LOCK);
  } catch (error) {
    if (!['ENOENT', 'ENOTEMPTY', 'EEXIST', 'EPERM'].includes(error.code)) throw error;
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: the process of another user.
    return error.code === 'EPERM';
  }
}
