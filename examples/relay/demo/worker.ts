// The child's end of the channel to the demo: configuration in, reports out. A child never
// outlives the demo.

import type { Command, Failure } from './messages.js';

/** Runs a child's work with its configuration. What it throws is reported to the demo. */
export async function work<Config>(start: (config: Config) => Promise<void>): Promise<void> {
  process.on('disconnect', () => process.exit());
  // Ctrl-C reaches the whole process group; the demo decides when its children end.
  process.on('SIGINT', () => {});
  try {
    await start(JSON.parse(process.argv[2] ?? '{}'));
  } catch (error) {
    tell<Failure>({ kind: 'failed', why: error instanceof Error ? error.message : String(error) });
  }
}

/** Milliseconds between two reports of a child; the table shows the latest of each. */
export const REPORT_EVERY = 200;

/** Tells the demo something. */
export function tell<Message>(message: Message): void {
  // A demo that is gone is noticed by `disconnect`.
  process.send?.(message, undefined, {}, () => {});
}

/** Resolves when the demo gives this command. */
export function told(kind: Command['kind']): Promise<void> {
  return new Promise((resolve) => {
    const listener = (command: Command) => {
      if (command.kind !== kind) return;
      process.off('message', listener);
      resolve();
    };
    process.on('message', listener);
  });
}
