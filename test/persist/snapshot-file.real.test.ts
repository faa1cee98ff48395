// Saves by processes that the system stops: a full disk, missing permission, another owner.

import { chmodSync, readFileSync, statSync } from 'node:fs';
import { saveSnapshot } from 'relay-limiter/persist';
import { expect, test } from 'vitest';
import { run } from '../support/processes.js';
import { Notebook, testFolder } from './support.js';

const folder = testFolder();
const kept = () => readFileSync(folder.file(), 'utf8');
const save = () => saveSnapshot(new Notebook(), folder.file());

// RLIMIT_FSIZE acts like a full disk: a write stops in the middle, and the next ones fail.
test.skipIf(process.platform === 'win32')(
  'saveSnapshot on a full disk keeps the old file',
  async () => {
    await save();
    const before = kept();
    const script = `
    import { execFileSync } from 'node:child_process';
    import { saveSnapshot } from 'relay-limiter/persist';
    process.on('SIGXFSZ', () => {});
    execFileSync('prlimit', ['--pid', String(process.pid), '--fsize=100000']);
    const limiter = { snapshot: () => ({ text: 'x'.repeat(1_000_000) }), restore: () => 0 };
    await saveSnapshot(limiter, ${JSON.stringify(folder.file())}).catch(({ code }) => console.log(code));
  `;
    expect(run(script)).toEqual({ status: 0, stdout: 'EFBIG', stderr: '' });
    expect(kept()).toBe(before);
    expect(folder.entries()).toEqual(['bans.json']);
  },
);

test.skipIf(process.platform === 'win32')(
  'saveSnapshot without permission keeps the old file',
  async () => {
    await save();
    const before = kept();
    const script = `
    import { chmodSync } from 'node:fs';
    import { saveSnapshot } from 'relay-limiter/persist';
    chmodSync(${JSON.stringify(folder.file('.'))}, 0o555);
    if (process.getuid() === 0) process.setuid(65534);
    const limiter = { snapshot: () => ({}), restore: () => 0 };
    await saveSnapshot(limiter, ${JSON.stringify(folder.file())}).catch(({ code }) => console.log(code));
  `;
    expect(run(script)).toEqual({ status: 0, stdout: 'EACCES', stderr: '' });
    chmodSync(folder.file('.'), 0o700);
    expect(kept()).toBe(before);
    expect(folder.entries()).toEqual(['bans.json']);
  },
);

test.skipIf(process.getuid?.() !== 0)(
  'saveSnapshot works for a user who cannot keep the owner of the file',
  async () => {
    await save();
    chmodSync(folder.file('.'), 0o777);
    const script = `
    import { saveSnapshot } from 'relay-limiter/persist';
    process.setgid(65533);
    process.setuid(65534);
    const limiter = { snapshot: () => ({}), restore: () => 0 };
    await saveSnapshot(limiter, ${JSON.stringify(folder.file())});
  `;
    expect(run(script)).toEqual({ status: 0, stdout: '', stderr: '' });
    expect(statSync(folder.file())).toMatchObject({ uid: 65534, gid: 65533 });
  },
);
