// The data of a WebSocket message, and the kinds of frames that carry data.

/** A message's data; its type depends on the WebSocket's `binaryType`. */
export type MessageData = Buffer | ArrayBuffer | Buffer[] | Blob;

export type FrameKind = 'text' | 'binary' | 'ping' | 'pong';

export function byteLength(data: MessageData): number {
  // V8 reads a missing property as fast as an existing one; the operator `in` is slower.
  const { byteLength } = data as { byteLength?: number };
  if (byteLength !== undefined) return byteLength;
  if (Array.isArray(data)) return data.reduce((sum, part) => sum + part.length, 0);
  return (data as Blob).size;
}
