// The socket below a TLS socket: TLS servers emit the one before the handshake, and the other after it.

import type { Socket } from 'node:net';

/** The socket below a TLS socket of a server; another socket itself. Node has no public name for it. */
export function tcpSocket(socket: Socket): Socket {
  return (socket as { _parent?: Socket | null })._parent ?? socket;
}
