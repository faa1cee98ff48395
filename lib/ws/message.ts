// What ws gives its listeners: a message's data, and what kind of frame brought it.

/** A message's data, by the WebSocket's `binaryType`. */
export type MessageData = Buffer | ArrayBuffer | Buffer[] | Blob;

export type FrameKind = 'text' | 'binary' | 'ping' | 'pong';

export function byteLength(data: MessageData): number {
  // Of a property that is missing V8 knows as fast as of one that is there; `in` it looks up.
  const { byteLength } = data as { byteLength?: number };
  if (byteLength !== undefined) return byteLength;
  if (Array.isArray(data)) return data.reduce((sum, part) => sum + part.length, 0);
  return (data as Blob).size;
}
