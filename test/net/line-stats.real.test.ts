// What a guard of lines counts, over real sockets.

import { once } from 'node:events';
import { afterEach, expect, test } from 'vitest';
import { few, until } from '../support/sockets.js';
import { allOf, connected, guarded, stopAll } from './support.js';

afterEach(stopAll);

test('getStats of a LineGuard counts connections and lines, by reason', async () => {
  const { guard, port } = await guarded({
    connections: { limiter: few(1) },
    messages: { limiter: few(2) },
    maxLineBytes: 10,
    farewell: 'bye\n',
    onVerdict: undefined,
  });
  const first = await connected(port);
  await until(() => guard.connections === 1);
  expect(await allOf(await connected(port))).toBe('bye\n');
  first.write('a\nb\nc\n');
  await until(() => guard.getStats().messages.dropped['rate'] === 1);
  expect(guard.getStats()).toMatchObject({
    connections: { open: 1, paused: 0, accepted: 1, refused: { rate: 1, error: 0 } },
    messages: { passed: 2, delayed: 0 },
  });
  first.resume().write('x'.repeat(20));
  await once(first, 'close');
  await until(() => guard.connections === 0);
  expect(guard.getStats().connections).toMatchObject({ open: 0, closed: { length: 1 } });
});
