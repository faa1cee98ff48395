// BadNetwork: a TCP proxy that delays data, cuts and refuses connections, or drops data silently.

import { once } from 'node:events';
import { createConnection, createServer, type Server, type Socket } from 'node:net';

export class BadNetwork {
  /** Seconds by which data is delayed in each direction. */
  latency = 0;
  /** Whether new connections are refused. */
  isClosed = false;
  /** Whether data is dropped without an error. */
  dropsData = false;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(port: number) {
    this.#server = createServer((near) => {
      if (this.isClosed) near.destroy();
      else this.#join(near, createConnection(port, '127.0.0.1'));
    });
  }

  static async start(port: number): Promise<BadNetwork> {
    const proxy = new BadNetwork(port);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get url(): string {
    return `redis://127.0.0.1:${(this.#server.address() as { port: number }).port}`;
  }

  /** Ends all open connections. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.cut();
    this.#server.close();
  }

  #join(near: Socket, far: Socket): void {
    this.#pipe(near, far);
    this.#pipe(far, near);
  }

  #pipe(from: Socket, to: Socket): void {
    this.#sockets.add(from);
    from.setNoDelay(true);
    from.on('data', (data) => {
      if (this.dropsData) return;
      setTimeout(() => to.writable && to.write(data), this.latency * 1000);
    });
    from.on('error', () => {});
    from.on('close', () => {
      this.#sockets.delete(from);
      to.destroy();
    });
  }
}
