// Who wants to know that a signal aborts, and until when: one listener on a signal, however many they are.

const waiting = new WeakMap<AbortSignal, Set<() => void>>();

/**
 * Calls `then` when `signal` aborts, unless what it returns has been called. Nothing is left on the signal
 * but a listener; where AbortSignal.any is used, some versions of Node keep something of each call, and
 * with many listeners warn of a leak.
 */
export function onAbort(signal: AbortSignal | undefined, then: () => void): () => void {
  if (signal === undefined) return () => {};
  const all = waiting.get(signal) ?? listen(signal);
  all.add(then);
  return () => {
    all.delete(then);
  };
}

function listen(signal: AbortSignal): Set<() => void> {
  const all = new Set<() => void>();
  waiting.set(signal, all);
  signal.addEventListener('abort', () => all.forEach((then) => void then()), { once: true });
  return all;
}
