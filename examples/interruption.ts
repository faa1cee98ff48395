// Ends a demonstration early: on SIGINT, on SIGTERM, or if its output is closed.

/** The exit code after an interruption, the same as a shell reports for a program ended by SIGINT. */
export const INTERRUPTED = 130;

const controller = new AbortController();
process.on('SIGINT', () => controller.abort());
process.on('SIGTERM', () => controller.abort());
// A reader such as `head` closes the pipe once it has read enough.
process.stdout.on('error', () => controller.abort());

export const interruption: AbortSignal = controller.signal;
