// A node as an HTTP server.

import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { LimitedNode } from './limited-node.js';
import type { NodeSpec } from './nodes.js';

/** The parts of a server that clients use. */
export interface Server {
  readonly spec: NodeSpec;
  /** Such as `http://127.0.0.1:1234`. */
  readonly origin: string;
  close(): void;
}

export class NodeServer implements Server {
  readonly spec: NodeSpec;
  origin = '';
  readonly #http = createServer((_, response) => this.#answer(response));
  readonly #node: LimitedNode;

  private constructor(spec: NodeSpec) {
    this.spec = spec;
    this.#node = new LimitedNode(spec, now());
  }

  /** Listens on a free port of the loopback interface. */
  static async listen(spec: NodeSpec): Promise<NodeServer> {
    const server = new NodeServer(spec);
    // Otherwise a request seconds after another one could use a connection that the server is just closing.
    server.#http.keepAliveTimeout = 0;
    await new Promise<void>((resolve, reject) => {
      server.#http.once('error', reject).listen(0, '127.0.0.1', resolve);
    });
    server.origin = `http://127.0.0.1:${(server.#http.address() as AddressInfo).port}`;
    return server;
  }

  close(): void {
    this.#http.close();
    this.#http.closeAllConnections();
  }

  #answer(response: ServerResponse): void {
    const { status, headers, latencySeconds } = this.#node.answer(now());
    response.writeHead(status, headers);
    setTimeout(() => response.end('here you are'), latencySeconds * 1000);
  }
}

function now(): number {
  return performance.now() / 1000;
}
