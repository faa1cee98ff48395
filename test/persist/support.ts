// A folder for a test's files, and something to save that no engine is needed for.

import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';

/** A folder of each test's own. */
export function testFolder() {
  let folder = '';
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'relay-limiter-persist-'));
  });
  afterEach(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  return {
    file: (name = 'bans.json') => join(folder, name),
    entries: () => readdirSync(folder).sort(),
  };
}

/** Gives what it is told to, and keeps what it is given. */
export class Notebook {
  restored: object | undefined;

  readonly #content: object;
  readonly #answer: unknown;

  constructor(content: object = {}, answer?: unknown) {
    this.#content = content;
    this.#answer = answer;
  }

  snapshot(): object {
    return this.#content;
  }

  restore(snapshot: object): unknown {
    this.restored = snapshot;
    return this.#answer;
  }
}

/** The peers that it was given. */
export const peersOf = (notebook: Notebook): unknown =>
  (notebook.restored as { peers?: unknown } | undefined)?.peers;

export const codeOfRejection = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    (resolved) => ({ resolved }),
    (error: { code?: unknown }) => error.code,
  );
