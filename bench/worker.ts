// Runs one contestant of one case in a separate process, so that it shares no heap, compiled code or caches. It prepares
// the contestant, then runs a round per message.

import { caseNamed } from './cases/index.js';

const [name = '', contestant = '', peers = ''] = process.argv.slice(2);

// The parent process has ended.
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
