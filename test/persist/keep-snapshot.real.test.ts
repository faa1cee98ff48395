// keepSnapshot in another process: its timer, its warning, and SIGTERM.

import { expect, test } from 'vitest';
import { run } from '../support/processes.js';
import { testFolder } from './support.js';

const folder = testFolder();

test('keepSnapshot does not keep its process alive', () => {
  const script = `
    import { keepSnapshot } from 'relay-limiter/persist';
    const limiter = { snapshot: () => ({}), restore: () => 0 };
    keepSnapshot(limiter, ${JSON.stringify(folder.file('missing/bans.json'))});
  `;
  expect(run(script)).toMatchObject({ status: 0, stdout: '', stderr: '' });
});

test('keepSnapshot warns of a failed save without onError', () => {
  const script = `
    import { once } from 'node:events';
    import { keepSnapshot } from 'relay-limiter/persist';
    const limiter = { snapshot: () => ({}), restore: () => 0 };
    const file = ${JSON.stringify(folder.file('missing/bans.json'))};
    keepSnapshot(limiter, file, { everySeconds: 0.001 });
    const alive = setInterval(() => {}, 1000);
    const [{ message }] = await once(process, 'warning');
    clearInterval(alive);
    console.log(message.includes('ENOENT'));
    process.exit();
  `;
  const { status, stdout, stderr } = run(script);
  expect({ status, stdout }).toEqual({ status: 0, stdout: 'true' });
  expect(stderr).toContain('a snapshot was not saved');
});

test.skipIf(process.platform === 'win32')(
  'keepSnapshot.stop, called on SIGTERM in the middle of a save, waits for the last one',
  () => {
    const script = `
    import { keepSnapshot, loadSnapshot } from 'relay-limiter/persist';
    const file = ${JSON.stringify(folder.file())};
    let count = 0;
    const limiter = {
      snapshot() {
        count += 1;
        // A save has begun.
        if (count === 1) process.kill(process.pid, 'SIGTERM');
        return { count };
      },
      restore: (saved) => console.log(saved.count === count, count > 1),
    };
    const keeper = keepSnapshot(limiter, file, { everySeconds: 0.001 });
    process.once('SIGTERM', async () => {
      await keeper.stop();
      await loadSnapshot(limiter, file);
      process.exit();
    });
    setInterval(() => {}, 1000);
  `;
    expect(run(script)).toMatchObject({ status: 0, stdout: 'true true', stderr: '' });
  },
);
