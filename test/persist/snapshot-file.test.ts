// Snapshots in files: what is restored, how elapsed time changes it, and that damage and failures lose nothing.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { PolicyLimiter } from 'relay-limiter/client';
import { loadSnapshot, saveSnapshot } from 'relay-limiter/persist';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { writeDocument } from '../../dist/persist/document.js';
import { overwriteFile } from '../../dist/persist/in-place.js';
import { slicesOf } from '../../dist/persist/slices.js';
import { ODD_KEYS } from '../support/limiters.js';
import { codeOfRejection, Notebook, peersOf, testFolder } from './support.js';

const folder = testFolder();
const peer = { key: 'ann', violations: 3, banSecondsLeft: 100, idleSeconds: 5 };
const NOW = 1_700_000_000_000;
const snapshot = { format: 1, limiter: 'OrderbookRateLimiter', peers: [peer] };

afterEach(() => {
  vi.useRealTimers();
});

/** Saves at one time of the wall clock and loads at another. */
async function laterBy(seconds: number, peers: unknown[]): Promise<unknown> {
  vi.useFakeTimers({ toFake: ['Date'], now: NOW });
  await saveSnapshot(new Notebook({ ...snapshot, peers }), folder.file());
  vi.setSystemTime(NOW + seconds * 1000);
  const loaded = new Notebook();
  await loadSnapshot(loaded, folder.file());
  return peersOf(loaded);
}

describe('a snapshot file', () => {
  test('restores all keys and returns their number', async () => {
    const peers = ODD_KEYS.map((key) => ({ ...peer, key, banSecondsLeft: null }));
    await saveSnapshot(new Notebook({ ...snapshot, peers }), folder.file());
    const loaded = new Notebook({}, 7);
    expect(await loadSnapshot(loaded, folder.file())).toBe(7);
    expect(loaded.restored).toMatchObject({ format: 1, limiter: 'OrderbookRateLimiter' });
    expect((peersOf(loaded) as { key: string }[]).map(({ key }) => key)).toEqual(ODD_KEYS);
    expect(folder.entries()).toEqual(['bans.json']);
  });

  test('is JSON with one line per slice, and a checksum', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: NOW });
    await saveSnapshot(new Notebook(snapshot), folder.file());
    const text = readFileSync(folder.file(), 'utf8');
    const saved = JSON.parse(text);
    expect(Object.keys(saved)).toEqual(['format', 'slices', 'sha256']);
    expect(saved.slices).toEqual([{ savedAt: NOW, snapshot }]);
    expect(text.split('\n')).toHaveLength(8);
  });

  test('is written and read one slice at a time', async () => {
    let turn = 0;
    const turns: number[] = [];
    const slices = Array.from({ length: 20 }, (_, n) => ({
      ...snapshot,
      peers: [{ ...peer, key: `${n}` }],
      digests: [],
    }));
    function* inTurns<T>(items: Iterable<T>): Generator<T> {
      for (const item of items) {
        turns.push(turn);
        yield item;
      }
    }
    const limiter = {
      restored: [] as object[],
      snapshot: () => snapshot,
      restore: () => 0,
      snapshotSlices: () => inTurns(slices),
      *restoreSlices(given: Iterable<object>) {
        for (const slice of inTurns(given)) yield this.restored.push(slice);
      },
    };
    let isBusy = true;
    const others = (async () => {
      for (; isBusy; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    })();
    await saveSnapshot(limiter, folder.file());
    expect(new Set(turns).size).toBe(20);
    turns.length = 0;
    expect(await loadSnapshot(limiter, folder.file())).toBe(20);
    isBusy = false;
    await others;
    expect(new Set(turns).size).toBe(20);
    expect(limiter.restored).toHaveLength(20);
    expect(limiter.restored.map((slice) => (slice as typeof snapshot).peers[0]?.key)).toEqual(
      slices.map((slice) => slice.peers[0]?.key),
    );
    // A limiter without restoreSlices cannot load slices.
    const code = await codeOfRejection(loadSnapshot(new Notebook(), folder.file()));
    expect(code).toBe('ERR_LIMITER_SNAPSHOT');
  });

  test('lets the event loop run at each empty slice', async () => {
    let turn = 0;
    const turns: number[] = [];
    const limiter = {
      snapshot: () => snapshot,
      restore: () => 0,
      *snapshotSlices() {
        for (let n = 0; n < 20; n += 1) {
          turns.push(turn);
          yield { ...snapshot, peers: [], digests: [] };
        }
      },
    };
    let isBusy = true;
    const others = (async () => {
      for (; isBusy; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    })();
    await saveSnapshot(limiter, folder.file());
    isBusy = false;
    await others;
    expect(new Set(turns).size).toBe(20);
    expect(JSON.parse(readFileSync(folder.file(), 'utf8')).slices).toHaveLength(1);
  });

  test('can be longer than a string', async () => {
    // Each slice becomes a string; the whole document never does.
    const original = Buffer.prototype.toString;
    const most = 2 ** 20;
    const limited = vi.spyOn(Buffer.prototype, 'toString').mockImplementation(function (
      this: Buffer,
      ...how
    ) {
      if (this.length > most) throw new Error('a string is too long');
      return original.apply(this, how);
    });
    const keys = Array.from({ length: 40 }, (_, n) => `${n}`.padEnd(60_000, '\u0001'));
    const slices = keys.map((key) => ({ ...snapshot, peers: [{ ...peer, key }], digests: [] }));
    const restored: object[] = [];
    const limiter = {
      snapshot: () => snapshot,
      restore: () => 0,
      snapshotSlices: () => slices,
      *restoreSlices(given: Iterable<object>) {
        for (const slice of given) yield restored.push(slice);
      },
    };
    try {
      await saveSnapshot(limiter, folder.file());
      expect(statSync(folder.file()).size).toBeGreaterThan(10 * most);
      expect(await loadSnapshot(limiter, folder.file())).toBe(40);
    } finally {
      limited.mockRestore();
    }
    expect(restored.map((slice) => (slice as typeof snapshot).peers[0]?.key)).toEqual(keys);
  });

  test('splits slices with very long keys and omits empty slices', async () => {
    const keys = ['a', 'b'.repeat(50_000), 'c'.repeat(20_000), 'd'.repeat(100_000), 'e'];
    const digests = [{ secret: '', peers: [['0', 1, 2, 3]] }];
    const limiter = {
      snapshot: () => snapshot,
      restore: () => 0,
      *snapshotSlices() {
        yield { ...snapshot, peers: [], digests: [{ secret: '', peers: [] }] };
        yield { ...snapshot, peers: [], digests: [] };
        yield { ...snapshot, peers: keys.map((key) => ({ ...peer, key })), digests };
      },
    };
    await saveSnapshot(limiter, folder.file());
    const { slices } = JSON.parse(readFileSync(folder.file(), 'utf8'));
    const saved = slices.map((slice: { snapshot: typeof snapshot }) =>
      slice.snapshot.peers.map(({ key }) => key[0]),
    );
    expect(saved).toEqual([[], ['a', 'b'], ['c'], ['d'], ['e']]);
    // Digests come after the peers, once.
    const ofSlices = slices.map((slice: { snapshot: object }) =>
      Reflect.get(slice.snapshot, 'digests'),
    );
    expect(ofSlices.slice(1)).toEqual([[], [], [], digests]);
  });

  test('of format 1 is read', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: NOW + 10_000 });
    const json = JSON.stringify(snapshot);
    const sum = createHash('sha256').update(`${NOW}\n`).update(json).digest('hex');
    const text = `{\n"format": 1,\n"savedAt": ${NOW},\n"sha256": "${sum}",\n"snapshot": ${json}\n}\n`;
    writeFileSync(folder.file(), text);
    const loaded = new Notebook({}, 1);
    expect(await loadSnapshot(loaded, folder.file())).toBe(1);
    expect(peersOf(loaded)).toEqual([{ ...peer, banSecondsLeft: 90, idleSeconds: 15 }]);
    for (const damaged of [text.replace('ann', 'bob'), text.slice(0, -1), `${text}\n`]) {
      writeFileSync(folder.file(), damaged);
      const code = await codeOfRejection(loadSnapshot(new Notebook(), folder.file()));
      expect(code).toBe('ERR_LIMITER_SNAPSHOT');
    }
  });

  test('that does not exist restores nothing', async () => {
    const notebook = new Notebook();
    expect(await loadSnapshot(notebook, folder.file('none/bans.json'))).toBe(0);
    expect(notebook.restored).toBeUndefined();
  });

  test('of a PolicyLimiter keeps a quota from being spent twice', async () => {
    const options = {
      policies: [{ quota: 3, windowSeconds: 3600 }],
      algorithm: 'fixed',
      clock: () => 0,
      wallClock: () => 0,
    } as const;
    const before = new PolicyLimiter(options);
    while (before.tryAcquire());
    await saveSnapshot(before, folder.file());
    const restarted = new PolicyLimiter(options);
    expect(await loadSnapshot(restarted, folder.file())).toBe(1);
    expect(restarted.tryAcquire()).toBe(false);
    const other = new PolicyLimiter({ policies: [{ quota: 4, windowSeconds: 3600 }] });
    expect(await codeOfRejection(loadSnapshot(other, folder.file()))).toBe('ERR_LIMITER_SNAPSHOT');
    expect(other.tryAcquire()).toBe(true);
  });
});

describe('the time between save and load', () => {
  test('refills buckets, by key and under digests', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: NOW });
    const clock = () => 1000;
    const daily = () => new RateLimiter({ rateLimit: 0.01, burstLimit: 100, clock });
    const before = daily();
    before.check('honest', 60);
    before.check('offender', 100);
    before.check('offender');
    await saveSnapshot(before, folder.file());
    vi.setSystemTime(NOW + 1_000_000);
    const after = daily();
    expect(await loadSnapshot(after, folder.file())).toBe(2);
    for (const key of ['honest', 'offender']) after.check(key, 0);
    expect([after.getTokens('honest'), after.getTokens('offender')]).toEqual([50, 10]);
  });

  test('counts towards bans and idleness', async () => {
    const silent = { key: 'bob', violations: 1, banSecondsLeft: null, idleSeconds: null };
    expect(await laterBy(30.5, [peer, silent])).toEqual([
      { ...peer, banSecondsLeft: 69.5, idleSeconds: 35.5 },
      silent,
    ]);
  });

  test('ends bans and keeps peers without a ban', async () => {
    const worse = { ...peer, key: 'bob', banSecondsLeft: 100.5 };
    const free = { ...peer, key: 'eve', banSecondsLeft: null };
    expect(await laterBy(100, [peer, worse, free])).toMatchObject([
      { key: 'bob', banSecondsLeft: 0.5 },
      { key: 'eve', violations: 3, banSecondsLeft: null },
    ]);
  });

  test('is 0 if the wall clock went back', async () => {
    expect(await laterBy(-1e6, [peer])).toEqual([peer]);
  });

  test('does not change invalid peers, which restore rejects', async () => {
    const nonsense = [null, 5, 'ann', { banSecondsLeft: '1', idleSeconds: [] }];
    expect(await laterBy(10, nonsense)).toEqual(nonsense);
  });
});

describe('damage', () => {
  const damaged = async (bytes: Uint8Array | string) => {
    writeFileSync(folder.file(), bytes);
    const notebook = new Notebook();
    const code = await codeOfRejection(loadSnapshot(notebook, folder.file()));
    return notebook.restored === undefined && code === 'ERR_LIMITER_SNAPSHOT';
  };

  test('of any bit is detected', async () => {
    await saveSnapshot(new Notebook(snapshot), folder.file());
    const bytes = readFileSync(folder.file());
    for (let n = 0; n < bytes.length * 8; n += 1) {
      const flipped = Buffer.from(bytes);
      flipped[n >> 3] = (flipped[n >> 3] as number) ^ (1 << (n & 7));
      expect(await damaged(flipped), `bit ${n}`).toBe(true);
    }
    writeFileSync(folder.file(), bytes);
    expect(await loadSnapshot(new Notebook(), folder.file())).toBe(1);
  });

  test('includes truncation and appended bytes', async () => {
    await saveSnapshot(new Notebook(snapshot), folder.file());
    const bytes = readFileSync(folder.file());
    for (let length = 1; length < bytes.length; length += 1) {
      expect(await damaged(bytes.subarray(0, length)), `${length} bytes`).toBe(true);
    }
    for (const more of [' ', '\n', '\0', bytes]) {
      expect(await damaged(Buffer.concat([bytes, Buffer.from(more)]))).toBe(true);
    }
  });

  test.each(['{}', 'null', '[1, 2]', JSON.stringify(snapshot)])(
    'is whatever is not ours: %j',
    async (text) => {
      expect(await damaged(text)).toBe(true);
    },
  );

  test('includes a file of zeros', async () => {
    expect(await damaged('\0'.repeat(5000))).toBe(true);
  });
});

describe('a failed save', () => {
  const kept = () => readFileSync(folder.file(), 'utf8');

  test('rejects with the reason and leaves no file', async () => {
    const save = (name: string) => codeOfRejection(saveSnapshot(new Notebook(), folder.file(name)));
    expect(await save('missing/bans.json')).toBe('ENOENT');
    mkdirSync(folder.file('folder'));
    expect(await save('folder')).toBe('EISDIR');
    expect(await codeOfRejection(loadSnapshot(new Notebook(), folder.file('folder')))).toBe(
      'EISDIR',
    );
    writeFileSync(folder.file('file'), '');
    expect(await save('file/bans.json')).toBe('ENOTDIR');
    expect(await save('n'.repeat(300))).toBe('ENAMETOOLONG');
    expect(folder.entries()).toEqual(['file', 'folder']);
  });

  test('of a failing limiter changes nothing', async () => {
    await saveSnapshot(new Notebook(snapshot), folder.file());
    const before = kept();
    const failing = new Notebook();
    failing.snapshot = () => {
      throw new Error('no snapshot');
    };
    await expect(saveSnapshot(failing, folder.file())).rejects.toThrow('no snapshot');
    expect(kept()).toBe(before);
  });

  test.each([undefined, null, 5, '', new URL('file:///bans.json')])(
    'for want of a path: %s',
    async (path) => {
      const given = path as string;
      for (const act of [saveSnapshot, loadSnapshot]) {
        expect(await codeOfRejection(act(new Notebook(), given))).toBe('ERR_LIMITER_OPTION');
      }
    },
  );
});

describe('a file that cannot be loaded', () => {
  const save = () => saveSnapshot(new Notebook(snapshot), folder.file());
  const asides = () => folder.entries().filter((name) => name.startsWith('bans.json.damaged-'));

  test.each(['loaded before', 'not loaded before'])(
    'is copied by the next save, %s',
    async (how) => {
      await save();
      const text = readFileSync(folder.file(), 'utf8').replace('ann', 'eve');
      writeFileSync(folder.file(), text);
      if (how === 'loaded before') {
        const code = await codeOfRejection(loadSnapshot(new Notebook(), folder.file()));
        expect(code).toBe('ERR_LIMITER_SNAPSHOT');
      }
      await save();
      const [aside = '', ...others] = asides();
      expect([aside, others]).toEqual([
        expect.stringMatching(/^bans\.json\.damaged-\d{8}T\d{9}Z$/),
        [],
      ]);
      expect(readFileSync(folder.file(aside), 'utf8')).toBe(text);
      expect(await loadSnapshot(new Notebook({}, 1), folder.file())).toBe(1);
      await save();
      expect(asides()).toHaveLength(1);
    },
  );

  test('is copied if another limiter has rejected it', async () => {
    await saveSnapshot(new RateLimiter(), folder.file());
    const orders = new OrderbookRateLimiter();
    const code = await codeOfRejection(loadSnapshot(orders, folder.file()));
    expect(code).toBe('ERR_LIMITER_SNAPSHOT');
    await saveSnapshot(orders, folder.file());
    expect(asides()).toHaveLength(1);
  });

  test('stays unchanged if it cannot be copied', async () => {
    writeFileSync(folder.file(), 'damaged');
    vi.useFakeTimers({ toFake: ['Date'], now: 0 });
    mkdirSync(folder.file('bans.json.damaged-19700101T000000000Z'));
    await expect(save()).rejects.toMatchObject({
      code: 'EEXIST',
      message: expect.stringMatching(
        /bans\.json is damaged, and cannot be copied to .*: move it away/,
      ),
    });
    expect(readFileSync(folder.file(), 'utf8')).toBe('damaged');
  });

  test('is not copied if it is empty', async () => {
    writeFileSync(folder.file(), '');
    await save();
    expect(asides()).toEqual([]);
  });
});

describe('an empty file whose first save in place was killed', () => {
  const HEAD = '{\n"format": 2,\n"slices": [\n';

  /** Each text that the file can contain until the appended document can be found. */
  async function unfinished(): Promise<Buffer[]> {
    await saveSnapshot(new Notebook(snapshot), folder.file());
    const document = readFileSync(folder.file());
    const whole = Buffer.concat([Buffer.from('\x1e'), document, document]);
    const saves = Array.from({ length: whole.length }, (_, n) => whole.subarray(0, n + 1));
    // The process is killed in the next save as well.
    const again = saves.slice(0, HEAD.length + 3).map((save) => Buffer.concat([save, whole]));
    return [...saves, ...again];
  }

  test('has no document, and is not copied by the next save', async () => {
    for (const bytes of await unfinished()) {
      writeFileSync(folder.file(), bytes);
      const notebook = new Notebook();
      expect(await loadSnapshot(notebook, folder.file()), `${bytes.length} bytes`).toBe(0);
      expect(notebook.restored).toBeUndefined();
    }
    writeFileSync(folder.file(), `\x1e${HEAD}`);
    await saveSnapshot(new Notebook(snapshot), folder.file());
    expect(folder.entries()).toEqual(['bans.json']);
    expect(await loadSnapshot(new Notebook(), folder.file())).toBe(1);
  });

  test('is damaged if anything else follows', async () => {
    await saveSnapshot(new Notebook(snapshot), folder.file());
    const document = readFileSync(folder.file()).toString('latin1');
    for (const text of [document.slice(1), `\n${document}`, '\0', '{}', 'x']) {
      writeFileSync(folder.file(), `\x1e${text}`, 'latin1');
      const code = await codeOfRejection(loadSnapshot(new Notebook(), folder.file()));
      expect(code, text).toBe('ERR_LIMITER_SNAPSHOT');
    }
  });
});

describe('a file that is overwritten in place', () => {
  async function* failing(): AsyncGenerator<Uint8Array> {
    yield Buffer.alloc(1000);
    throw new Error('no more');
  }

  test('is unchanged if the content fails', async () => {
    writeFileSync(folder.file(), 'old');
    await expect(overwriteFile(folder.file(), failing())).rejects.toThrow('no more');
    expect(readFileSync(folder.file(), 'utf8')).toBe('old');
  });

  test('keeps its inode and permissions', async () => {
    writeFileSync(folder.file(), 'old', { mode: 0o640 });
    const { ino, mode } = statSync(folder.file());
    await overwriteFile(folder.file(), writeDocument(slicesOf(new Notebook(snapshot))));
    expect(statSync(folder.file())).toMatchObject({ ino, mode });
    const notebook = new Notebook();
    await loadSnapshot(notebook, folder.file());
    expect(peersOf(notebook)).toMatchObject([{ key: 'ann' }]);
  });
});

describe('a path that is no file', () => {
  test.skipIf(process.platform === 'win32').each([
    ['a FIFO', (path: string) => execFileSync('mkfifo', [path])],
    ['a device', (path: string) => symlinkSync('/dev/zero', path)],
  ])('is rejected and unchanged: %s', async (kind, make) => {
    make(folder.file());
    for (const act of [saveSnapshot, loadSnapshot]) {
      const acting = act(new Notebook(), folder.file());
      await expect(acting).rejects.toThrow(`must lead to a regular file, got ${kind}: `);
      expect(await codeOfRejection(act(new Notebook(), folder.file()))).toBe('ERR_LIMITER_OPTION');
    }
    expect(folder.entries()).toEqual(['bans.json']);
    expect(statSync(folder.file()).isFile()).toBe(false);
  });
});

describe('a file that is replaced', () => {
  const save = (name?: string) => saveSnapshot(new Notebook(snapshot), folder.file(name));
  const mode = (name?: string) => statSync(folder.file(name)).mode & 0o777;

  test.skipIf(process.platform === 'win32')(
    'keeps its permissions; a new one is the owner alone',
    async () => {
      await save();
      expect(mode()).toBe(0o600);
      chmodSync(folder.file(), 0o644);
      await save();
      expect(mode()).toBe(0o644);
    },
  );

  test.skipIf(process.platform === 'win32')('stays where a link leads to', async () => {
    mkdirSync(folder.file('volume'));
    writeFileSync(folder.file('volume/bans'), '');
    symlinkSync('volume/bans', folder.file());
    await save();
    expect(readlinkSync(folder.file())).toBe('volume/bans');
    expect(await loadSnapshot(new Notebook(), folder.file('volume/bans'))).toBe(1);
  });

  test.skipIf(process.platform === 'win32')('is created at the target of links', async () => {
    mkdirSync(folder.file('volume'));
    mkdirSync(folder.file('far'));
    symlinkSync('../far/bans', folder.file('volume/next'));
    symlinkSync('volume', folder.file('here'));
    symlinkSync('here/next', folder.file());
    await save();
    expect(readlinkSync(folder.file())).toBe('here/next');
    expect(folder.entries()).toEqual(['bans.json', 'far', 'here', 'volume']);
    expect(await loadSnapshot(new Notebook(), folder.file('far/bans'))).toBe(1);
    expect(mode('far/bans')).toBe(0o600);
    symlinkSync('loop', folder.file('loop'));
    expect(await codeOfRejection(save('loop'))).toBe('ELOOP');
  });

  test.skipIf(process.getuid?.() !== 0)('keeps its owner, if root saves', async () => {
    await save();
    chownSync(folder.file(), 65534, 65533);
    chmodSync(folder.file(), 0o640);
    await save();
    expect(statSync(folder.file())).toMatchObject({ uid: 65534, gid: 65533 });
    expect(mode()).toBe(0o640);
  });

  test('is cleaned of leftovers of killed processes only', async () => {
    const old = [
      'bans.json.0123456789abcdef.tmp',
      'bans.json.tmp',
      'bans.json.0123456789abcdef.tmp.old',
      'other.json.0123456789abcdef.tmp',
    ];
    const young = 'bans.json.fedcba9876543210.tmp';
    vi.useFakeTimers({ toFake: ['Date'], now: NOW });
    const make = (name: string, secondsAgo: number) => {
      writeFileSync(folder.file(name), '');
      utimesSync(folder.file(name), NOW / 1000 - secondsAgo, NOW / 1000 - secondsAgo);
    };
    for (const name of old) make(name, 61);
    make(young, 59);
    await save();
    expect(folder.entries()).toEqual([...old.slice(1), young, 'bans.json'].sort());
  });

  test('holds the latest of several concurrent snapshots', async () => {
    const saves = Array.from({ length: 20 }, (_, n) => {
      // The lengths differ so much that the last save would finish first.
      const content = { n, text: 'x'.repeat((20 - n) * 50_000) };
      return saveSnapshot(new Notebook(content), folder.file());
    });
    await Promise.all(saves);
    const notebook = new Notebook();
    await loadSnapshot(notebook, folder.file());
    expect(notebook.restored).toMatchObject({ n: 19 });
    expect(folder.entries()).toEqual(['bans.json']);
  });

  test('is replaced even if the previous save fails', async () => {
    const failing = save('later/bans.json').catch(({ code }) => {
      mkdirSync(folder.file('later'));
      return code;
    });
    const next = save('later/bans.json');
    expect(await failing).toBe('ENOENT');
    await next;
    expect(await loadSnapshot(new Notebook(), folder.file('later/bans.json'))).toBe(1);
  });
});
