// Errors that surface as uncaught exceptions, for the tests that expect them.

/** Runs something, and returns what surfaced meanwhile. */
export async function uncaught(act: () => Promise<void>): Promise<Error[]> {
  const caught: Error[] = [];
  const note = (error: Error) => caught.push(error);
  const listeners = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', note);
  try {
    await act();
  } finally {
    process.off('uncaughtException', note);
    for (const listener of listeners) process.on('uncaughtException', listener);
  }
  return caught;
}
