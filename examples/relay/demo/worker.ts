// The child's end of the channel to the demo: it receives its configuration and commands, and sends reports. A child ends
// at the latest when the demo ends.

import type { Command, Failure } from './messages.js';

/** Runs a child's work with its configuration. Reports its errors to the demo. */
export async function work<Config>(start: (config: Config) => Promise<void>): Promise<void> {
  process.on('disconnect', () => process.exit());
  // The demo may have ended before this child could listen to it.
  if (!process.connected) process.exit();
  // Ctrl-C reaches the whole process group; the demo decides when its children end.
  process.on('SIGINT', () => {});
  try {
    await start(JSON.parse(process.argv[2] ?? '{}'));
  } catch (error) {
    sendToParent<Failure>({
      kind: 'failed',
      why: error instanceof Error ? error.message : String(error),
    });
  }
}

/** Milliseconds between two reports of a child; the table shows the latest of each. */
export const REPORT_EVERY = 200;

/** Sends a message to the demo. */
export function sendToParent<Message>(message: Message): void {
  // A failure to send is ignored: the event 'disconnect' reports that the demo has ended.
  process.send?.(message, undefined, {}, () => {});
}

/** Resolves when the demo sends this command. */
export function receiveCommand(kind: Command['kind']): Promise<void> {
  return new Promise((resolve) => {
    const listener = (command: Command) => {
      if (command.kind !== kind) return;
      process.off('message', listener);
      resolve();
    };
    process.on('message', listener);
  });
}
