// ShiftedClocks: the clocks of another process, which this one sets. shifted-clocks.cc does it, as a library that is
// loaded before all others; only Linux has that, and a C++ compiler is needed.

import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCE = fileURLToPath(new URL('../../../soak/fleet/shifted-clocks.cc', import.meta.url));
const VARIABLE = 'SHIFTED_CLOCKS';
// The doubles of the file.
const WALL = 0;
const MONOTONIC = 1;
const WITH_SLEEP = 2;
const BYTES = 24;

export class ShiftedClocks {
  /** The environment of a process whose clocks are these. */
  readonly env: NodeJS.ProcessEnv;
  readonly #folder: string;
  readonly #file: number;
  readonly #shifts = [0, 0, 0];

  private constructor(folder: string, library: string) {
    const name = join(folder, 'shifts');
    this.#folder = folder;
    this.#file = openSync(name, 'w+');
    writeSync(this.#file, Buffer.alloc(BYTES), 0, BYTES, 0);
    this.env = { LD_PRELOAD: library, [VARIABLE]: name };
  }

  /** Returns clocks that are right so far; undefined if this machine cannot shift clocks. */
  static create(): ShiftedClocks | undefined {
    if (process.platform !== 'linux') return undefined;
    const folder = mkdtempSync(join(tmpdir(), 'relay-limiter-clocks-'));
    const library = join(folder, 'shifted-clocks.so');
    const flags = ['-std=c++17', '-O1', '-shared', '-fPIC', '-o', library, SOURCE];
    for (const compiler of [process.env['CXX'], 'c++', 'g++', 'clang++']) {
      if (compiler === undefined) continue;
      if (spawnSync(compiler, flags).status === 0) return new ShiftedClocks(folder, library);
    }
    rmSync(folder, { recursive: true });
    return undefined;
  }

  /** Sets the wall clock by so many seconds. */
  stepWall(seconds: number): void {
    this.#add(WALL, seconds);
  }

  /** Lets so many seconds pass in which the machine sleeps, at once. */
  sleep(seconds: number): void {
    this.#add(WALL, seconds);
    this.#add(WITH_SLEEP, seconds);
  }

  /**
   * Makes a sleep of the machine of a stop of a process, which has taken so many seconds: its monotonic clock has stood
   * still. Call this before the process goes on.
   */
  countAsSleep(seconds: number): void {
    this.#add(MONOTONIC, -seconds);
  }

  /** Sets the clocks right again, for other processes than before. */
  reset(): void {
    for (const [clock, shift] of this.#shifts.entries()) this.#add(clock, -shift);
  }

  close(): void {
    closeSync(this.#file);
    rmSync(this.#folder, { recursive: true });
  }

  #add(clock: number, seconds: number): void {
    const shift = (this.#shifts[clock] as number) + seconds;
    this.#shifts[clock] = shift;
    const bytes = Buffer.from(new Float64Array([shift]).buffer);
    writeSync(this.#file, bytes, 0, bytes.length, clock * bytes.length);
  }
}

/** Returns the machine's monotonic seconds, in a process with shifted clocks too. */
export function createMachineClock(): () => number {
  const seconds = () => {
    const [whole, nanoseconds] = process.hrtime();
    return whole + nanoseconds / 1e9;
  };
  const name = process.env[VARIABLE];
  if (name === undefined) return seconds;
  const file = openSync(name, 'r');
  const shift = new Float64Array(1);
  return () => {
    readSync(file, new Uint8Array(shift.buffer), 0, shift.byteLength, MONOTONIC * shift.byteLength);
    return seconds() - (shift[0] as number);
  };
}
