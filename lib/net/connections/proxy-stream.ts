// Takes a PROXY header off the stream of a socket, and leaves the bytes after it to the socket's other readers. TLS, HTTP
// and HTTP/2 of Node read what is in a socket's buffer before they read from the system.

import type { Socket } from 'node:net';
import { type Endpoint, type ProxyHeader, readProxyHeader } from './proxy-header.js';

/**
 * Calls `done` once with the header of the socket, or with undefined if there is no valid one in time, or if the socket
 * closes before. The socket must have no readers yet, and must get them only in `done`. Returns a function that stops
 * reading without a call of `done`.
 */
export function takeProxyHeader(
  socket: Socket,
  milliseconds: number,
  done: (header: ProxyHeader | undefined) => void,
): () => void {
  let received = Buffer.alloc(0);
  const timer = setTimeout(fail, milliseconds).unref();

  function stop(): void {
    clearTimeout(timer);
    socket.off('readable', onReadable).off('end', fail).off('close', fail);
  }

  function finish(header: ProxyHeader | undefined): void {
    stop();
    // A tick later the stream knows that nobody waits for 'readable' any more, and a listener of 'data' makes it flow.
    process.nextTick(done, header);
  }

  function fail(): void {
    finish(undefined);
  }

  function onReadable(): void {
    // As many bytes as there are: then a stream that has ended emits its 'end' later, to the other readers.
    const chunk: Buffer | null = socket.read(socket.readableLength);
    if (chunk === null) return;
    received = Buffer.concat([received, chunk]);
    const header = readProxyHeader(received);
    if (header === 'invalid') fail();
    // Makes a stream that has ended emit its 'end'.
    else if (header === 'incomplete') socket.read(0);
    else {
      const rest = received.subarray(header.length);
      if (rest.length > 0) socket.unshift(rest);
      finish(header);
    }
  }

  socket.on('readable', onReadable).on('end', fail).on('close', fail);
  return stop;
}

/** Makes a socket report another peer: fields of its own hide those of its class. */
export function setEndpoint(socket: Socket, endpoint: Endpoint): void {
  for (const [name, value] of Object.entries(endpoint)) {
    Object.defineProperty(socket, name, { value, configurable: true, enumerable: true });
  }
}
