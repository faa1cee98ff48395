// BadNetwork: a TCP proxy that delays data, cuts and refuses connections, drops data silently, or leads to another server.

import { once } from 'node:events';
import { createConnection, createServer, type Server, type Socket } from 'node:net';

export class BadNetwork {
  /** The port on this machine to which new connections lead. */
  target: number;
  /** Seconds by which data is delayed in each direction. */
  latency = 0;
  /** Whether new connections are refused. */
  isClosed = false;
  /** Whether data is dropped without an error. */
  dropsData = false;
  /** Whether what the server sends is dropped without an error. */
  dropsReplies = false;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Sockets whose data is dropped. */
  readonly #lost = new WeakSet<Socket>();

  private constructor(target: number) {
    this.target = target;
    this.#server = createServer((near) => {
      if (this.isClosed) near.destroy();
      else this.#join(near, createConnection(this.target, '127.0.0.1'));
    });
  }

  static async start(target: number): Promise<BadNetwork> {
    const proxy = new BadNetwork(target);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** Drops all data of the connections that are open now, without an error; new connections are not affected. */
  loseConnections(): void {
    for (const socket of this.#sockets) this.#lost.add(socket);
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
    this.#pipe(near, far, () => this.dropsData);
    this.#pipe(far, near, () => this.dropsData || this.dropsReplies);
  }

  #pipe(from: Socket, to: Socket, isDropped: () => boolean): void {
    this.#sockets.add(from);
    from.setNoDelay(true);
    // Data keeps its order if the latency changes.
    const underWay: { data: Buffer; due: number }[] = [];
    const deliver = () => {
      for (let next = underWay[0]; next !== undefined; next = underWay[0]) {
        const wait = next.due - performance.now();
        if (wait > 0) return void setTimeout(deliver, wait);
        underWay.shift();
        if (to.writable) to.write(next.data);
      }
    };
    from.on('data', (data: Buffer) => {
      if (isDropped() || this.#lost.has(from)) return;
      underWay.push({ data, due: performance.now() + this.latency * 1000 });
      if (underWay.length === 1) deliver();
    });
    from.on('error', () => {});
    from.on('close', () => {
      this.#sockets.delete(from);
      to.destroy();
    });
  }
}
