// One contestant of one case, in a process of its own: its heap, its compiled code and its caches are
// nobody else's. Makes itself ready, and does a round whenever it is asked to.

import { caseNamed } from './cases/index.js';

const [name = '', contestant = '', peers = ''] = process.argv.slice(2);

// Whoever asked is gone.
process.on('disconnect', () => process.exit());

const say = (answer: object) => process.send?.(answer, () => {});
const failed = (error: unknown) => {
  say({ failed: error instanceof Error ? error.message : String(error) });
};

try {
  const round = await caseNamed(name).prepare(contestant, Number(peers));
  process.on('message', async () => {
    try {
      say({ round: await round() });
    } catch (error) {
      failed(error);
    }
  });
  say({ ready: true });
} catch (error) {
  failed(error);
}
