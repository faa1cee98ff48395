// What ws gives its listeners, as the guard passes it on: the very call.

/** A message's data, by the WebSocket's `binaryType`. */
export type MessageData = Buffer | ArrayBuffer | Buffer[] | Blob;

/** The arguments of an `emit`: a message, a ping or a pong. */
export type Call = [event: 'message' | 'ping' | 'pong', data: MessageData, isBinary?: boolean];

export function isMessage(call: readonly unknown[]): call is Call {
  const event = call[0];
  return event === 'message' || event === 'ping' || event === 'pong';
}

export function byteLength(data: MessageData): number {
  if (Array.isArray(data)) return data.reduce((sum, part) => sum + part.length, 0);
  return 'byteLength' in data ? data.byteLength : data.size;
}
