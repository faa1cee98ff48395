// How a demonstration ends before its time.

/** What it exits with then: as a shell says of a program that SIGINT has ended. */
export const INTERRUPTED = 130;

const controller = new AbortController();
process.on('SIGINT', () => controller.abort());
process.on('SIGTERM', () => controller.abort());
// A reader that has seen enough, such as `head`, closes the pipe.
process.stdout.on('error', () => controller.abort());

export const interruption: AbortSignal = controller.signal;
