// A folder for the files of a test, and a limiter to save and load that needs no engine.

import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';

/** Creates a folder before each test, and removes it afterwards. */
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

/** Its snapshot is the content that its constructor gets, and it records the snapshot that it restores. */
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

/** The peers of the restored snapshot. */
export const peersOf = (notebook: Notebook): unknown =>
  (notebook.restored as { peers?: unknown } | undefined)?.peers;

export const codeOfRejection = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    (resolved) => ({ resolved }),
    (error: { code?: unknown }) => error.code,
  );
