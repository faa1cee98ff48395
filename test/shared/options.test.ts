// The option `shared` and removeShared: what they accept. Nothing here creates a table.

import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import os from 'node:os';
import { join } from 'node:path';
import {
  DirectConnectionRateLimiter,
  OrderbookRateLimiter,
  RateLimiter,
  RuleLimiter,
  type RuleLimiterOptions,
  removeShared,
} from 'relay-limiter';
import { describe, expect, onTestFinished, test } from 'vitest';
import { sharedNames, sharedPathOf } from '../../dist/engine/shared-paths.js';
import { codeOf } from '../support/limiters.js';

/** A RuleLimiter that needs no options, as the others. */
class Rules extends RuleLimiter {
  constructor(options: Partial<RuleLimiterOptions> = {}) {
    super({ scopes: { account: {} }, rules: {}, ...options });
  }
}

const LIMITERS = {
  RateLimiter,
  OrderbookRateLimiter,
  DirectConnectionRateLimiter,
  RuleLimiter: Rules,
};
const NO_NAMES = [
  '',
  'a/b',
  './a',
  '../a',
  '.a',
  'a b',
  'a\0',
  'é',
  'a'.repeat(65),
  '/a\0b',
  1,
  null,
  true,
  {},
];

describe.each(Object.entries(LIMITERS))('%s with the option shared', (_, Limiter) => {
  // The TypeScript engine has no shared tables, so a value that is accepted is refused for that reason.
  const codeWith = (options: object) =>
    codeOf(() => new Limiter({ engine: 'js', shared: 'chat', ...options }));

  test('has no table on the TypeScript engine', () => {
    expect(codeWith({})).toBe('ERR_LIMITER_ENGINE');
    expect(() => new Limiter({ engine: 'js', shared: 'chat' })).toThrow(
      'a shared table needs the native engine, but the engine option asks for js',
    );
  });

  test('takes a name or an absolute path', () => {
    for (const shared of ['a', 'A-_.9', '-', '_', 'a'.repeat(64), '/run/chat', '/a/../b']) {
      expect(codeWith({ shared }), shared).toBe('ERR_LIMITER_ENGINE');
    }
    for (const shared of NO_NAMES) {
      expect(codeWith({ shared }), String(shared)).toBe('ERR_LIMITER_OPTION');
    }
    expect(() => new Limiter({ shared: '../a' })).toThrow(
      "shared must be a name (1 to 64 letters, digits, '.', '_' and '-', the first no '.') or an absolute path, got \"../a\"",
    );
    expect(new Limiter({ shared: undefined }).shared).toBeUndefined();
  });

  test('takes neither a clock nor an unlimited number of peers', () => {
    expect(codeWith({ clock: () => 0 })).toBe('ERR_LIMITER_OPTION');
    expect(() => new Limiter({ shared: 'chat', clock: () => 0 })).toThrow(
      "clock must be undefined with the option 'shared', which has the machine's clock, got a function",
    );
    for (const maxPeers of [Infinity, 2 ** 26 + 1]) {
      expect(codeWith({ maxPeers }), String(maxPeers)).toBe('ERR_LIMITER_OPTION');
      expect(() => new Limiter({ shared: 'chat', maxPeers })).toThrow(
        `maxPeers must be a whole number from 1 to 2^26 with the option 'shared', got ${maxPeers}`,
      );
    }
    expect(codeWith({ maxPeers: 2 ** 26 })).toBe('ERR_LIMITER_ENGINE');
  });
});

test('removeShared takes a name or an absolute path', () => {
  for (const name of [...NO_NAMES, undefined]) {
    expect(
      codeOf(() => removeShared(name as string)),
      String(name),
    ).toBe('ERR_LIMITER_OPTION');
  }
});

describe('The path of a shared table', () => {
  test('is absolute, of one name and one user', () => {
    const [chat, mail] = [sharedPathOf('chat'), sharedPathOf('mail')];
    expect(chat).not.toBe(mail);
    expect(chat).toMatch(/^(?:\/|[A-Z]:\\).*relay-limiter-.*chat$/);
    if (process.platform === 'linux') {
      expect(chat).toBe(`/dev/shm/relay-limiter-${process.geteuid?.()}-chat`);
    }
    expect(sharedNames()).not.toContain('chat-without-a-file');
  });

  test.runIf(process.platform !== 'win32')('is the option, if that is a path', () => {
    expect(sharedPathOf('/run/app/chat')).toBe('/run/app/chat');
    expect(sharedPathOf('/run/app/../chat/')).toBe('/run/chat');
    // A path of another system would be a file in the current folder.
    for (const path of ['C:\\chat', '\\\\host\\chat']) {
      expect(
        codeOf(() => sharedPathOf(path)),
        path,
      ).toBe('ERR_LIMITER_OPTION');
    }
  });
});

/** As on a system without /dev/shm, with a folder for temporary files that is empty. */
function elsewhere(): string {
  const { platform } = process;
  const { tmpdir } = os;
  const folder = mkdtempSync(join(tmpdir(), 'relay-limiter-paths-'));
  const use = (name: string, temporary: () => string) => {
    Object.defineProperty(process, 'platform', { value: name });
    os.tmpdir = temporary;
    syncBuiltinESMExports();
  };
  use('darwin', () => folder);
  onTestFinished(() => {
    use(platform, tmpdir);
    rmSync(folder, { recursive: true });
  });
  return folder;
}

describe.runIf(process.platform !== 'win32')('On a system without /dev/shm', () => {
  const user = process.geteuid?.();

  test('tables lie in a folder of the user, which is created', () => {
    const folder = join(elsewhere(), `relay-limiter-${user}`);
    expect(sharedNames()).toEqual([]);
    expect(sharedPathOf('chat')).toBe(join(folder, `relay-limiter-${user}-chat`));
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    for (const name of ['mail', 'chat', 'chat.5-1f.new']) writeFileSync(sharedPathOf(name), '');
    writeFileSync(join(folder, 'something else'), '');
    // One of them is a table under creation.
    expect(sharedNames()).toEqual(['chat', 'mail']);
  });

  test.each([
    ['that others can enter', (folder: string) => chmodSync(folder, 0o711)],
    [
      'behind a symbolic link',
      (folder: string) => {
        rmSync(folder, { recursive: true });
        symlinkSync('/', folder);
      },
    ],
    [
      'that is a file',
      (folder: string) => {
        rmSync(folder, { recursive: true });
        writeFileSync(folder, '', { mode: 0o600 });
      },
    ],
  ])('no table lies in a folder %s', (_, spoil) => {
    const folder = join(elsewhere(), `relay-limiter-${user}`);
    mkdirSync(folder, { mode: 0o700 });
    expect(sharedPathOf('chat')).toContain(folder);
    spoil(folder);
    expect(() => sharedPathOf('chat')).toThrow(`the folder ${folder} must`);
    expect(codeOf(() => sharedPathOf('chat'))).toBe('ERR_LIMITER_SHARED');
  });
});
