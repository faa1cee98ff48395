// What ws gives its listeners, as the guard passes it on: the very call.

/** A message's data, by the WebSocket's `binaryType`. */
export type MessageData = Buffer | ArrayBuffer | Buffer[] | Blob;

/** A message, a ping or a pong: the arguments of an `emit`. */
export interface Call {
  readonly event: 'message' | 'ping' | 'pong';
  readonly data: MessageData;
  /** Of a message. */
  readonly isBinary: boolean;
}

export function byteLength(data: MessageData): number {
  // Of a property that is missing V8 knows as fast as of one that is there; `in` it looks up.
  const { byteLength } = data as { byteLength?: number };
  if (byteLength !== undefined) return byteLength;
  if (Array.isArray(data)) return data.reduce((sum, part) => sum + part.length, 0);
  return (data as Blob).size;
}
