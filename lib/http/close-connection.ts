// Closes the connection of a request after its response, if the limiter disconnects the peer. HTTP/1 has a field for
// this, HTTP/2 a frame.

import type { IncomingMessage } from 'node:http';
import type { Http2ServerRequest } from 'node:http2';

/**
 * Call it before the headers of the response are sent. `setField` is used for HTTP/1 only. An HTTP/2 session sends
 * GOAWAY, accepts no new streams, and ends after its open streams, which include this response.
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
