// Closes the connection of a request that its limiter disconnects, once the answer is sent. What carries the answer
// makes the difference: a field of HTTP/1, a frame of HTTP/2.

import type { IncomingMessage } from 'node:http';
import type { Http2ServerRequest } from 'node:http2';

/**
 * To be called before the response has begun. `setField` is for HTTP/1; a session of HTTP/2 sends GOAWAY, takes no new
 * streams, and ends with those that are open, of which the answer's is one.
 */
export function closeConnection(
  request: IncomingMessage,
  setField: (name: string, value: string) => void,
): void {
  if (request.httpVersionMajor === 1) {
    setField('connection', 'close');
    return;
  }
  const { stream } = request as unknown as Partial<Http2ServerRequest>;
  stream?.session?.close();
}
