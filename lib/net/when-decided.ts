// Waits for the decision on a connection that its server's listeners have not got yet. Until they get it nothing takes bytes
// out of the socket, so none are lost.

import type { Socket } from 'node:net';
import { callSafely } from '../common/callbacks.js';

/** Calls `decided` with the decision, or `failed` with what the limiter threw. */
export function whenDecided<Decided>(
  socket: Socket,
  decision: PromiseLike<Decided>,
  decided: (decision: Decided) => void,
  failed: (error: unknown) => void,
): void {
  // The listeners of the user come later.
  socket.on('error', ignoreError);
  const act = (then: () => void) => {
    callSafely(then);
    socket.off('error', ignoreError);
  };
  decision.then(
    (found) => act(() => decided(found)),
    (error) => act(() => failed(error)),
  );
}

/** Whether the peer has left, so that the events for which the listeners of the user would wait have been emitted. */
export function hasLeft(socket: Socket): boolean {
  return socket.destroyed || socket.readableEnded;
}

/** The listener of errors of a socket that has no other. */
export function ignoreError(): void {}
