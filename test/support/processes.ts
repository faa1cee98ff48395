// Child processes: scripts run in a process of their own, against a copy of the package that a test
// may spoil, or against the package as it is.

import { type ChildProcessByStdio, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export interface Outcome {
  status: number | null;
  stdout: string;
  stderr: string;
  /** What ended it, if it did not end itself. */
  signal?: NodeJS.Signals | undefined;
  /** Why it could not be run to its end, such as ETIMEDOUT. */
  errorCode?: string | undefined;
}

/**
 * Runs an ES module given as text, in `folder`; `relay-limiter` is the package there. A script that hangs is ended
 * after four minutes, before the test's own time is over, so that the outcome says so; a slow one is not.
 */
export function run(
  script: string,
  { folder = ROOT, env = {}, flags = [], timeoutMs = 240_000 }: RunOptions = {},
): Outcome {
  const args = [...flags, '--input-type=module', '--eval', script];
  const { status, signal, error, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: folder,
    env: { ...process.env, RELAY_LIMITER_ENGINE: '', NODE_OPTIONS: '', ...env },
    encoding: 'utf8',
    timeout: timeoutMs,
  });
  return {
    status,
    stdout: stdout.trim(),
    stderr: stderr.trim(),
    signal: signal ?? undefined,
    errorCode: (error as NodeJS.ErrnoException | undefined)?.code,
  };
}

interface RunOptions {
  folder?: string;
  env?: Record<string, string>;
  flags?: string[];
  timeoutMs?: number;
}

/** The JSON that a script prints; a script that fails throws its words. */
export function runJson(script: string, options?: RunOptions): unknown {
  const { status, stdout, stderr, signal, errorCode } = run(script, options);
  if (status !== 0) throw new Error(`exit ${errorCode ?? signal ?? status}: ${stderr}`);
  return JSON.parse(stdout);
}

const ENDS_WITH_PARENT = fileURLToPath(new URL('ends-with-parent.mjs', import.meta.url));

/** Starts a program of the repository's, to be watched and perhaps interrupted. It ends with the tests at the latest. */
export function start(program: string, args: string[]) {
  const child = spawn(process.execPath, ['--import', ENDS_WITH_PARENT, program, ...args], {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  }) as ChildProcessByStdio<null, Readable, Readable>;
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      output += text;
    });
  }
  let isClosed = false;
  const ended = once(child, 'close').then(([code, signal]) => {
    isClosed = true;
    return { code: code ?? signal, output };
  });
  return {
    interrupt: () => child.kill('SIGINT'),
    signal: (name: NodeJS.Signals) => child.kill(name),
    /** `code` is the signal where one has ended it. */
    ended,
    /** Resolves with what the pattern captures, once it is printed. */
    async line(pattern: RegExp): Promise<string | undefined> {
      for (;;) {
        const match = pattern.exec(output);
        if (match) return match[1];
        if (isClosed) throw new Error(`it ended without ${pattern}:\n${output}`);
        await Promise.race([once(child.stdout, 'data'), ended]);
      }
    },
  };
}

export interface PackageCopy {
  readonly folder: string;
  write(path: string, content: string | Buffer): void;
  /** From the repository into the copy. */
  copy(from: string, to: string): void;
  remove(): void;
}

/** The folders of dist that only other entry points need. */
const OTHER_ENTRIES = /dist.(client|dashboard|fastify|guard|http|metrics|net|persist|redis|ws)$/;

/**
 * A copy of the built package without any binary, with its dependencies. It holds only what the main entry point
 * needs to run: the rest is nine tenths of the time that a copy takes.
 */
export function packageCopy({ dependencies = true } = {}): PackageCopy {
  const folder = mkdtempSync(join(tmpdir(), 'relay-limiter-'));
  const filter = (path: string) => !/\.(map|d\.ts)$/.test(path) && !OTHER_ENTRIES.test(path);
  for (const part of ['dist', 'package.json']) {
    cpSync(join(ROOT, part), join(folder, part), { recursive: true, filter });
  }
  if (dependencies)
    symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'), 'junction');
  const place = (path: string) => {
    const file = join(folder, path);
    mkdirSync(join(file, '..'), { recursive: true });
    return file;
  };
  return {
    folder,
    write: (path, content) => writeFileSync(place(path), content),
    copy: (from, to) => cpSync(join(ROOT, from), place(to)),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
