// A node: an HTTP server that enforces its policies, and says of them what its draft has words for.

import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { formatRateLimitHeaders } from 'relay-limiter/headers';
import type { NodeSpec } from './nodes.js';

export class NodeServer {
  readonly spec: NodeSpec;
  /** Such as `http://127.0.0.1:1234`. */
  origin = '';
  readonly #http = createServer((_, response) => this.#answer(response));
  readonly #windows: readonly FixedWindow[];

  private constructor(spec: NodeSpec) {
    this.spec = spec;
    this.#windows = spec.policies.map((policy) => new FixedWindow(policy));
  }

  /** Listens on a free port of the loopback interface. */
  static async listen(spec: NodeSpec): Promise<NodeServer> {
    const server = new NodeServer(spec);
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
    const now = performance.now() / 1000;
    const full = this.#windows.filter((window) => window.remaining(now) === 0);
    if (full.length === 0) for (const window of this.#windows) window.count();
    const { draft, policies, latencySeconds } = this.spec;
    if (draft !== undefined) {
      const limits = this.#windows.map((window) => window.limit(now));
      for (const [name, value] of Object.entries(
        formatRateLimitHeaders({ policies, limits }, { draft }),
      )) {
        response.setHeader(name, value);
      }
    }
    if (full.length > 0) {
      const seconds = Math.max(...full.map((window) => window.resetSeconds(now)));
      response.writeHead(429, { 'Retry-After': Math.ceil(seconds) }).end();
    } else {
      setTimeout(() => response.end('here you are'), latencySeconds * 1000);
    }
  }
}

class FixedWindow {
  readonly #policy: NodeSpec['policies'][number];
  #endsAt: number;
  #used = 0;

  constructor(policy: NodeSpec['policies'][number]) {
    this.#policy = policy;
    this.#endsAt = performance.now() / 1000 + Math.random() * policy.windowSeconds;
  }

  remaining(now: number): number {
    const { quota, windowSeconds } = this.#policy;
    for (; now >= this.#endsAt; this.#endsAt += windowSeconds) this.#used = 0;
    return quota - this.#used;
  }

  resetSeconds(now: number): number {
    return this.#endsAt - now;
  }

  count(): void {
    this.#used += 1;
  }

  limit(now: number) {
    const { name, quota } = this.#policy;
    return {
      name,
      limit: quota,
      remaining: this.remaining(now),
      resetSeconds: this.resetSeconds(now),
    };
  }
}
