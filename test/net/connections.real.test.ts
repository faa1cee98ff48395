// guardConnections on real servers of every kind, with real clients.

import { once } from 'node:events';
import { createServer as createHttpServer, request as httpRequest } from 'node:http';
import {
  connect as connectHttp2,
  createServer as createHttp2Server,
  createSecureServer,
} from 'node:http2';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import { RuleLimiter } from 'relay-limiter';
import {
  type ConnectionGuardOptions,
  type ConnectionVerdict,
  guardConnections,
  guardLineServer,
} from 'relay-limiter/net';
import { guardWebSocketServer } from 'relay-limiter/ws';
import { afterEach, describe, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { few, until } from '../support/sockets.js';
import { binary, FIELDS, IPV4_BODY, IPV6_BODY, text } from './proxy-headers.js';

const started: (() => void)[] = [];
afterEach(() => {
  for (const stop of started.splice(0)) stop();
});

// With a pre-shared key, no certificate is needed.
const psk = Buffer.alloc(16, 1);
const PSK = { ciphers: 'PSK', maxVersion: 'TLSv1.2', minVersion: 'TLSv1.2' } as const;
const SERVER = { ...PSK, pskCallback: () => psk };
const CLIENT = {
  ...PSK,
  pskCallback: () => ({ psk, identity: 'a' }),
  checkServerIdentity: () => undefined,
};

/** What a server knows about the client of a socket. */
const show = ({ remoteAddress, remotePort, remoteFamily }: Socket) =>
  `${remoteAddress} ${remotePort} ${remoteFamily}`;

type Stream = Duplex;

/** Some ends come with an error, others without one. */
const ignoreErrors = <Emitter extends { on(event: 'error', listener: () => void): unknown }>(
  emitter: Emitter,
) => {
  emitter.on('error', () => {});
  return emitter;
};
const closed = (stream: Stream) =>
  new Promise<void>((resolve) => stream.once('close', () => resolve()));

const secured = (stream: Stream, ALPNProtocols?: string[]) =>
  ignoreErrors(
    connectTls({ ...CLIENT, socket: stream as Socket, ...(ALPNProtocols && { ALPNProtocols }) }),
  );

/** What a stream receives until it ends. */
async function allOf(stream: NodeJS.ReadableStream): Promise<string> {
  let all = '';
  for await (const chunk of stream) all += String(chunk);
  return all;
}

async function askHttp(stream: Stream): Promise<string> {
  const request = ignoreErrors(httpRequest({ createConnection: () => stream as Socket }));
  request.end();
  const [response] = await once(request, 'response');
  return allOf(response);
}

async function askHttp2(stream: Stream): Promise<string> {
  const connection = { createConnection: () => stream };
  const session = ignoreErrors(connectHttp2('http://localhost', connection));
  started.push(() => session.destroy());
  const failed = once(session, 'close').then(() => Promise.reject(new Error('closed')));
  failed.catch(() => {});
  const answer = allOf(ignoreErrors(session.request({ ':path': '/' })));
  return Promise.race([answer, failed]);
}

async function askLine(stream: Stream): Promise<string> {
  stream.write('who am I\n');
  return allOf(stream);
}

interface Kind {
  /** A server that answers each client with what it knows about the client. */
  readonly serve: () => Server;
  /** Asks the server, and returns its answer. */
  readonly ask: (stream: Stream) => Promise<string>;
  readonly isTls: boolean;
}

const answerLine = (socket: Socket) => socket.once('data', () => socket.end(show(socket)));
const answerHttp = (request: { socket: Socket }, response: { end(text: string): unknown }) =>
  void response.end(show(request.socket));

const KINDS: Readonly<Record<string, Kind>> = {
  net: { serve: () => createServer(answerLine), ask: askLine, isTls: false },
  tls: {
    serve: () => createTlsServer(SERVER, answerLine),
    ask: (stream) => askLine(secured(stream)),
    isTls: true,
  },
  http: { serve: () => createHttpServer(answerHttp), ask: askHttp, isTls: false },
  https: {
    serve: () => createHttpsServer(SERVER, answerHttp),
    ask: (stream) => askHttp(secured(stream)),
    isTls: true,
  },
  http2: { serve: () => createHttp2Server(answerHttp), ask: askHttp2, isTls: false },
  'http2 over TLS': {
    serve: () => createSecureServer(SERVER, answerHttp),
    ask: (stream) => askHttp2(secured(stream, ['h2'])),
    isTls: true,
  },
};

async function guarded(server: Server, options: ConnectionGuardOptions) {
  const verdicts: ConnectionVerdict[] = [];
  const connections: Socket[] = [];
  server.on('connection', (socket) => connections.push(socket));
  server.on('tlsClientError', () => {});
  const guard = guardConnections(server, {
    // A busy machine takes its time.
    handshakeSeconds: Infinity,
    onVerdict: (verdict) => verdicts.push(verdict),
    ...options,
  });
  await once(server.listen(0, '0.0.0.0'), 'listening');
  const sockets: Socket[] = [];
  started.push(() => {
    guard.close();
    for (const socket of [...connections, ...sockets]) socket.destroy();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const dial = (localAddress = '127.0.0.1') => {
    const socket = ignoreErrors(connect({ port, host: '127.0.0.1', localAddress }));
    sockets.push(socket);
    return socket;
  };
  return { guard, verdicts, connections, dial, port };
}

/** A stream that sends a PROXY header first: in one piece with the first bytes, or each of its bytes alone. */
class Proxied extends Duplex {
  readonly #socket: Socket;
  #header: Buffer | undefined;
  readonly #bytewise: (() => number) | undefined;

  constructor(socket: Socket, header: Buffer, bytewise?: () => number) {
    super();
    this.#socket = socket;
    this.#header = header;
    this.#bytewise = bytewise;
    socket.on('data', (chunk) => this.push(chunk));
    socket.on('end', () => this.push(null));
    socket.on('close', () => this.destroy());
    this.on('error', () => {});
    this.on('close', () => socket.destroy());
  }

  override _read(): void {}

  override async _write(chunk: Buffer, _: string, done: (error?: Error) => void): Promise<void> {
    let all = this.#header === undefined ? chunk : Buffer.concat([this.#header, chunk]);
    const bytewise = this.#header === undefined ? undefined : this.#bytewise;
    this.#header = undefined;
    this.#socket.setNoDelay();
    while (bytewise !== undefined && all.length > 0) {
      const before = bytewise();
      this.#socket.write(all.subarray(0, 1));
      // The server has read this byte before the next one leaves.
      await until(() => bytewise() > before || this.#socket.destroyed);
      all = all.subarray(1);
    }
    this.#socket.write(all, () => done());
  }

  override _final(done: () => void): void {
    this.#socket.end(done);
  }
}

describe.each(Object.entries(KINDS))('guardConnections on a server of %s', (_, kind) => {
  test('passes a connection that is within the limits', async () => {
    const { dial, connections, verdicts, guard } = await guarded(kind.serve(), {
      connections: { maxPerAddress: 5 },
    });
    const socket = dial();
    expect(await kind.ask(socket)).toMatch(/^127\.0\.0\.1 \d+ IPv4$/);
    expect(connections).toHaveLength(1);
    expect(verdicts).toMatchObject([
      { did: 'passed', address: '127.0.0.1', socket: connections[0] },
    ]);
    socket.destroy();
    await until(() => guard.connections === 0);
  });

  test('refuses a connection before its first byte, and passes others', async () => {
    const { dial, connections, verdicts } = await guarded(kind.serve(), {
      connections: { limiter: few(1) },
    });
    await kind.ask(dial());
    const refused = dial();
    const received: Buffer[] = [];
    refused.on('data', (chunk) => received.push(chunk));
    await closed(refused);
    expect(received).toEqual([]);
    expect(connections).toHaveLength(1);
    expect(verdicts.at(-1)).toMatchObject({ did: 'refused', reason: 'rate', key: '127.0.0.1' });
    expect(await kind.ask(dial('127.0.0.2'))).toMatch(/^127\.0\.0\.2 /);
  });

  test.each([
    ['version 1', text('PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n'), '192.0.2.7 56324 IPv4'],
    ['version 2', binary(0x21, 0x21, Buffer.concat([IPV6_BODY, FIELDS])), '2001:db8::7 56324 IPv6'],
  ])('gives each socket the client of a PROXY header of %s', async (_, header, client) => {
    const { dial, verdicts } = await guarded(kind.serve(), {
      proxyProtocol: { trustedProxies: '127.0.0.9' },
    });
    expect(await kind.ask(new Proxied(dial('127.0.0.9'), header))).toBe(client);
    expect(verdicts).toMatchObject([
      { did: 'passed', address: client.split(' ')[0], proxy: '127.0.0.9' },
    ]);
    expect(await kind.ask(dial('127.0.0.2'))).toMatch(/^127\.0\.0\.2 /);
  });

  test('reads a PROXY header byte by byte, and the protocol behind it', async () => {
    const server = kind.serve();
    const { dial } = await guarded(server, { proxyProtocol: { trustedProxies: '127.0.0.9' } });
    let accepted: Socket | undefined;
    const { emit } = server;
    server.emit = ((name: string, ...rest: unknown[]) => {
      if (name === 'connection') accepted = rest[0] as Socket;
      return emit.call(server, name as never, ...(rest as never[]));
    }) as Server['emit'];
    const header = binary(0x21, 0x11, IPV4_BODY);
    const stream = new Proxied(dial('127.0.0.9'), header, () => accepted?.bytesRead ?? 0);
    expect(await kind.ask(stream)).toBe('192.0.2.7 56324 IPv4');
  });

  test('limits the clients behind a proxy, each for itself', async () => {
    const { dial, verdicts } = await guarded(kind.serve(), {
      proxyProtocol: { trustedProxies: '127.0.0.9' },
      limiter: new RuleLimiter({
        scopes: { address: { kind: 'address' } },
        rules: {
          connects: { scope: 'address', action: 'connect', rateLimit: 1e-6, burstLimit: 1 },
        },
        deny: { address: ['198.51.100.0/24'] },
      }),
    });
    const from = (address: string) =>
      new Proxied(dial('127.0.0.9'), text(`PROXY TCP4 ${address} 10.0.0.1 1 1\r\n`));
    expect(await kind.ask(from('192.0.2.1'))).toMatch(/^192\.0\.2\.1 /);
    for (const address of ['192.0.2.1', '198.51.100.1']) {
      const stream = from(address);
      stream.resume().write('x');
      await closed(stream);
    }
    expect(await kind.ask(from('192.0.2.2'))).toMatch(/^192\.0\.2\.2 /);
    expect(verdicts.map(({ reason }) => reason)).toEqual([undefined, 'rate', 'denied', undefined]);
  });

  test('closes the connection of a proxy that sends the protocol without a header', async () => {
    const { dial, connections, verdicts } = await guarded(kind.serve(), {
      proxyProtocol: { trustedProxies: '127.0.0.9' },
    });
    await kind.ask(dial('127.0.0.9')).catch(() => {});
    await until(() => verdicts.length === 1);
    expect(verdicts).toMatchObject([{ did: 'refused', reason: 'proxy', address: '127.0.0.9' }]);
    expect(connections).toEqual([]);
  });

  test('closes a client that sends nothing', async () => {
    const { dial, verdicts, guard } = await guarded(kind.serve(), { firstByteSeconds: 0.3 });
    const silent = dial('127.0.0.2');
    await closed(silent.resume());
    expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'silence' });
    await until(() => guard.connections === 0);
  });

  test('closes an idle client', async () => {
    const { dial, verdicts, guard } = await guarded(kind.serve(), { idleSeconds: 0.3 });
    const idle = dial('127.0.0.2');
    await closed(idle.resume());
    expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'idle' });
    await until(() => guard.connections === 0);
  });
});

const TLS_KINDS = Object.entries(KINDS).filter(([, { isTls }]) => isTls);

test.each(TLS_KINDS)(
  'guardConnections on a server of %s ends a handshake that dribbles in',
  async (_, kind) => {
    const { dial, verdicts, connections } = await guarded(kind.serve(), { handshakeSeconds: 0.5 });
    const slow = dial();
    await once(slow, 'connect');
    // The beginning of a ClientHello, byte by byte, for as long as the server listens.
    const bytes = Buffer.from('16030100c8010000c40303', 'hex');
    let sent = 0;
    const timer = setInterval(() => {
      slow.write(bytes.subarray(sent, sent + 1));
      sent = Math.min(sent + 1, bytes.length);
    }, 50);
    started.push(() => clearInterval(timer));
    await closed(slow.resume());
    expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'handshake' });
    expect(connections[0]?.destroyed).toBe(true);
  },
);

test('Node ends a request head that dribbles in behind a PROXY header', async () => {
  const server = createHttpServer({ headersTimeout: 300, connectionsCheckingInterval: 50 });
  const errors: string[] = [];
  server.on('clientError', ({ code }: NodeJS.ErrnoException, socket: Duplex) => {
    errors.push(`${code} of ${(socket as Socket).remoteAddress}`);
    socket.destroy();
  });
  const { dial } = await guarded(server, { proxyProtocol: { trustedProxies: '127.0.0.9' } });
  const slow = dial('127.0.0.9');
  slow.write('PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\nGET / HTTP/1.1\r\nX-Slow: ');
  const timer = setInterval(() => slow.write('x'), 20);
  started.push(() => clearInterval(timer));
  await closed(slow.resume());
  expect(errors).toEqual(['ERR_HTTP_REQUEST_TIMEOUT of 192.0.2.7']);
});

test('A connection that writes and is read is not idle', async () => {
  // Only the server speaks, so the client's bytes never move.
  const server = createServer((socket) => {
    const timer = setInterval(() => socket.write('tick'), 20);
    ignoreErrors(socket).on('close', () => clearInterval(timer));
  });
  const { dial, verdicts } = await guarded(server, { idleSeconds: 0.8 });
  const reader = dial('127.0.0.2');
  let received = 0;
  reader.on('data', (chunk) => (received += chunk.length));
  await until(() => received > 4 * 100);
  expect(verdicts.filter(({ did }) => did === 'closed')).toEqual([]);
});

test('A client that does not read what is sent is idle', async () => {
  const server = createServer((socket) => {
    // More than the buffers of both systems hold.
    for (let n = 0; n < 32; n += 1) socket.write(Buffer.alloc(2 ** 20));
    const timer = setInterval(() => socket.write('tick'), 20);
    ignoreErrors(socket).on('close', () => clearInterval(timer));
  });
  const { dial, verdicts } = await guarded(server, { idleSeconds: 0.4 });
  const slow = dial();
  slow.pause();
  await until(() => verdicts.length === 2);
  expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'idle' });
});

test('A guard of lines and one of WebSockets see the client of the PROXY header', async () => {
  const lineServer = createServer();
  const addresses: unknown[] = [];
  guardLineServer(lineServer, { onVerdict: ({ address }) => addresses.push(address) });
  const lines = await guarded(lineServer, { proxyProtocol: { trustedProxies: '127.0.0.9' } });
  const header = text('PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n');
  lines.dial('127.0.0.9').end(Buffer.concat([header, text('hello\n')]));
  await until(() => addresses.length === 2);
  expect(addresses).toEqual(['192.0.2.7', '192.0.2.7']);

  const httpServer = createHttpServer();
  const sockets = new WebSocketServer({ server: httpServer });
  const seen: unknown[] = [];
  guardWebSocketServer(sockets, { onVerdict: ({ address }) => seen.push(address) });
  const http = await guarded(httpServer, { proxyProtocol: { trustedProxies: '127.0.0.9' } });
  const client = new WebSocket('ws://localhost', {
    createConnection: () => new Proxied(http.dial('127.0.0.9'), header) as unknown as Socket,
  });
  started.push(() => client.terminate());
  await once(client, 'open');
  await until(() => seen.length === 1);
  expect(seen).toEqual(['192.0.2.7']);
});

test('A flood from many addresses leaves nothing behind', async () => {
  const { dial, guard, verdicts } = await guarded(createServer(answerLine), {
    connections: { maxPerAddress: 1, maxPerServer: 20 },
  });
  for (let round = 0; round < 5; round += 1) {
    const clients = Array.from({ length: 60 }, (_, n) => dial(`127.0.1.${1 + (n % 30)}`));
    await until(() => verdicts.length === 60 * (round + 1));
    expect(guard.connections).toBeLessThanOrEqual(20);
    for (const client of clients) client.destroy();
    await until(() => guard.connections === 0);
  }
});
