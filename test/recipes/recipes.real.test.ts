// The recipes of docs/recipes.md, with the real servers and clients. The clock of their limits, process.hrtime in
// the TypeScript engine, stands still unless a test moves it.

import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, connect, createServer, type Server as NetServer } from 'node:net';
import { extname } from 'node:path';
import { Aedes } from 'aedes';
import { connectAsync } from 'mqtt';
import type { RateLimiter } from 'relay-limiter';
import { type Socket, Server as SocketIo } from 'socket.io';
import { io as connectIo } from 'socket.io-client';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { limitDirectory } from '../../out/examples/recipes/joinmarket.js';
import { limits } from '../../out/examples/recipes/mqtt.js';
import { nostrRelay } from '../../out/examples/recipes/nostr.js';
import { allowRequest, limitPackets } from '../../out/examples/recipes/socket-io.js';
import { few, until } from '../support/sockets.js';
import { connected, stopAll, stopLater, stopper } from '../ws/support.js';

// The limiters take their clock when they are loaded, so the fake one must be there before.
vi.hoisted(() => {
  vi.useFakeTimers({ toFake: ['hrtime'] });
  vi.stubEnv('RELAY_LIMITER_ENGINE', 'js');
});

/** Lets seconds pass for the limits. */
const passing = (seconds: number) => vi.advanceTimersByTime(seconds * 1000);

const stops: (() => unknown)[] = [];

afterEach(async () => {
  stopAll();
  for (const stop of stops.splice(0).reverse()) await stop();
});

async function listening(server: NetServer): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  stops.push(() => server.close());
  return (server.address() as AddressInfo).port;
}

describe('Nostr', () => {
  async function relay() {
    const server = new WebSocketServer({ host: '127.0.0.1', port: 0, maxPayload: 131_072 });
    stopLater(stopper(server));
    const handled: string[] = [];
    nostrRelay(server, (_, [verb]) => handled.push(verb));
    // On the server's side: a peer that is slow may be cut before it has read this.
    const closes: unknown[] = [];
    const said: string[] = [];
    server.on('connection', (socket) => {
      const [send, close] = [vi.spyOn(socket, 'send'), vi.spyOn(socket, 'close')];
      socket.on('close', () => {
        said.push(...send.mock.calls.map(([text]) => String(text)));
        closes.push(close.mock.calls[0]);
      });
    });
    await once(server, 'listening');
    const peer = await connected((server.address() as AddressInfo).port);
    const answers: unknown[][] = [];
    peer.on('message', (data) => answers.push(JSON.parse(data.toString())));
    const send = (...messages: unknown[]) => {
      for (const message of messages) peer.send(JSON.stringify(message));
    };
    return { peer, handled, answers, send, said, closes };
  }

  test('each verb has its cost, and its answer', async () => {
    const { handled, answers, send } = await relay();
    // 30 units: five counts and two queries of one filter, and an event.
    const counts = Array.from({ length: 5 }, (_, n) => ['COUNT', `c${n}`, {}]);
    send(...counts, ['REQ', 'r', {}], ['REQ', 's', {}], ['EVENT', { id: 'e1' }]);
    send(['EVENT', { id: 'e2' }], ['REQ', 't', {}, {}], ['COUNT', 'c', {}], ['AUTH', {}]);
    send(['CLOSE', 'r']);
    await until(() => handled.at(-1) === 'CLOSE' && answers.length >= 4);
    expect(handled).toEqual([...Array(5).fill('COUNT'), 'REQ', 'REQ', 'EVENT', 'CLOSE']);
    const limited = 'rate-limited: try again in 1 s';
    expect(answers).toEqual([
      ['OK', 'e2', false, limited],
      ['CLOSED', 't', limited],
      ['CLOSED', 'c', limited],
      ['NOTICE', limited],
    ]);
  });

  test('a filter bomb, garbage and a flood', async () => {
    const { peer, handled, answers, send, said, closes } = await relay();
    send(['REQ', 'bomb', ...Array(16).fill({})], 'text', [], [1], null, ['EVENT'], ['EVENT', null]);
    peer.send('{');
    await until(() => answers.length === 6);
    expect(answers[0]).toEqual(['CLOSED', 'bomb', 'rate-limited: too much at once']);
    expect(answers.slice(1).every(([type]) => type === 'NOTICE')).toBe(true);
    expect(handled).toEqual(['EVENT', 'EVENT']);
    for (let n = 0; n < 500; n += 1) send(['EVENT', { id: String(n) }]);
    await until(() => closes.length > 0);
    expect(closes).toEqual([[1008, 'rate limit exceeded']]);
    expect(said).toContain('["NOTICE","rate-limited: slow down"]');
  });
});

describe('socket.io', () => {
  test.each(['polling', 'websocket'])('over %s', async (transport) => {
    const http = createHttpServer();
    const connects = few(2);
    const packets = few(4, { disconnectThreshold: 2 });
    const io = new SocketIo(http, { allowRequest: allowRequest(connects) });
    limitPackets(io, packets);
    const received: unknown[] = [];
    io.on('connection', (socket) => socket.on('say', (text) => received.push(text)));
    const url = `http://127.0.0.1:${await listening(http)}`;
    stops.push(() => io.close());
    const client = () => {
      const socket = connectIo(url, {
        transports: [transport],
        reconnection: false,
        forceNew: true,
      });
      stops.push(() => socket.disconnect());
      return socket;
    };
    const peer = client();
    await once(peer as never, 'connect');
    const limited: unknown[] = [];
    peer.on('rate-limited', (about) => limited.push(about));
    for (const text of ['a', 'b', 'c', 'd']) peer.emit('say', text);
    await until(() => limited.length === 1);
    peer.emit('say', 'e');
    await once(peer as never, 'disconnect');
    expect(received).toEqual(['a', 'b', 'c']);
    expect(limited).toEqual([{ delaySeconds: 1000 }]);
    await until(() => packets.getStats().trackedPeers === 0);
    await once(client() as never, 'connect');
    const [error] = await once(client() as never, 'connect_error');
    expect(error).toBeInstanceOf(Error);
  });
});

describe('socket.io, from a client of one’s own', () => {
  async function raw(limiter: RateLimiter) {
    const http = createHttpServer();
    const io = new SocketIo(http);
    limitPackets(io, limiter);
    stops.push(() => io.close());
    const port = await listening(http);
    const peer = new WebSocket(`ws://127.0.0.1:${port}/socket.io/?EIO=4&transport=websocket`);
    stopLater(peer);
    const heard: string[] = [];
    peer.on('message', (data) => heard.push(String(data)));
    await until(() => heard.some((text) => text.startsWith('0')));
    return { io, peer, heard };
  }

  test('who leaves a namespace and comes back, or takes another, is the same', async () => {
    const { io, peer, heard } = await raw(few(6));
    let received = 0;
    for (const name of ['/', '/other']) {
      io.of(name).on('connection', (socket) => socket.on('say', () => (received += 1)));
    }
    for (let n = 1; n <= 3; n += 1) {
      peer.send('40');
      await until(() => heard.filter((text) => text.startsWith('40')).length === n);
      peer.send('42["say"]');
      await until(() => received === n);
      peer.send('41');
      await until(() => io.sockets.sockets.size === 0);
    }
    peer.send('40/other,');
    await until(() => heard.some((text) => text.startsWith('44/other')));
    expect(received).toBe(3);
  });

  test.each([
    ['events', '42["say"]'],
    ['namespaces that are not there', '40/nope,'],
    ['acknowledgements', '431[]'],
    ['heartbeats', '3'],
    ['disconnects of a namespace', '41/nope,'],
  ])('a flood of %s is limited', async (_, packet) => {
    const { peer } = await raw(few(20, { disconnectThreshold: 30 }));
    const closed = once(peer, 'close');
    peer.send('40');
    for (let n = 0; n < 60; n += 1) peer.send(packet);
    await closed;
  });

  test('a probe of another transport is a packet', async () => {
    const limiter = few(3, { disconnectThreshold: 5 });
    const { io } = await raw(limiter);
    const url = `http://127.0.0.1:${(io.httpServer.address() as AddressInfo).port}/socket.io/?EIO=4`;
    const opened = await (await fetch(`${url}&transport=polling`)).text();
    const { sid } = JSON.parse(opened.slice(1));
    const probing = new WebSocket(`${url.replace('http', 'ws')}&transport=websocket&sid=${sid}`);
    stopLater(probing);
    probing.on('error', () => {});
    await once(probing, 'open');
    const closed = once(probing, 'close');
    for (let n = 0; n < 20; n += 1) probing.send('2probe');
    await closed;
  });

  test('what is dropped no listener hears, and attachments go with their event', async () => {
    // A CONNECT, an event of two attachments, and then none of the next.
    const { io, peer, heard } = await raw(few(4));
    const said: unknown[][] = [];
    io.on('connection', (socket) => socket.onAny((...about) => said.push(about)));
    peer.send('40');
    await until(() => heard.some((text) => text.startsWith('40')));
    const holder = (n: number) => `{"_placeholder":true,"num":${n}}`;
    const event = `452-["say",${holder(0)},${holder(1)}]`;
    for (let n = 0; n < 2; n += 1) {
      peer.send(event);
      for (const byte of [1, 2]) peer.send(Buffer.from([byte]));
    }
    await until(() => heard.includes('42["rate-limited",{"delaySeconds":1000}]'));
    peer.send('40/other,');
    await until(() => heard.includes('44/other,{"message":"rate limit exceeded"}'));
    expect(said).toEqual([['say', Buffer.from([1]), Buffer.from([2])]]);
    expect(peer.readyState).toBe(WebSocket.OPEN);
  });

  test('an event of more than ten attachments closes the connection', async () => {
    const { peer } = await raw(few(100));
    const closed = once(peer, 'close');
    peer.send('40');
    peer.send('4511-["say"]');
    await closed;
  });

  test('who does not read is not told for ever', async () => {
    const { io, peer } = await raw(few(1));
    peer.send('40');
    await until(() => io.sockets.sockets.size === 1);
    const [socket] = [...io.sockets.sockets.values()] as [Socket];
    const { conn } = socket;
    // A corked socket takes as little as one whose system buffers are full of answers.
    conn.request.socket.cork();
    let asked = 0;
    conn.on('packet', () => (asked += 1));
    for (let n = 0; n < 5000; n += 1) peer.send('42["say"]');
    await until(() => asked === 5000);
    const { writeBuffer } = conn as unknown as { writeBuffer: unknown[] };
    expect(writeBuffer.length).toBeLessThan(100);
    conn.request.socket.uncork();
  });
});

describe('MQTT', () => {
  test('who publishes too much waits, and loses nothing; too large a message ends it', async () => {
    const broker = await Aedes.createBroker(limits());
    stops.push(() => new Promise<void>((resolve) => broker.close(resolve)));
    const port = await listening(createServer(broker.handle));
    const received: string[] = [];
    broker.on('publish', (packet, client) => {
      if (client !== null) received.push(packet.payload.toString());
    });
    const options = { reconnectPeriod: 0 };
    const peer = await connectAsync(`mqtt://127.0.0.1:${port}`, options);
    stops.push(() => peer.endAsync(true));
    const texts = Array.from({ length: 50 }, (_, n) => String(n));
    const published = Promise.all(texts.map((text) => peer.publishAsync('a', text, { qos: 1 })));
    // Forty at once, and twenty a second.
    await until(() => received.length === 40);
    const other = await connectAsync(`mqtt://127.0.0.1:${port}`, options);
    stops.push(() => other.endAsync(true));
    await other.publishAsync('a', 'other', { qos: 1 });
    expect(received.splice(40)).toEqual(['other']);
    passing(1);
    await published;
    await until(() => received.length === 50);
    expect(received).toEqual(texts);
    peer.publish('a', 'x'.repeat(300_000), { qos: 1 });
    await once(peer as never, 'close');
    expect(received).toHaveLength(50);
  });
});

test('MQTT subscriptions wait as messages do', async () => {
  const broker = await Aedes.createBroker(limits());
  stops.push(() => new Promise<void>((resolve) => broker.close(resolve)));
  const port = await listening(createServer(broker.handle));
  const peer = await connectAsync(`mqtt://127.0.0.1:${port}`, { reconnectPeriod: 0 });
  stops.push(() => peer.endAsync(true));
  let granted = 0;
  const topics = Array.from({ length: 50 }, (_, n) => `topic/${n}`);
  for (const topic of topics.slice(0, 40)) {
    await peer.subscribeAsync(topic);
    granted += 1;
  }
  const others = peer.subscribeAsync(topics.slice(40)).then(() => (granted += 10));
  const other = await connectAsync(`mqtt://127.0.0.1:${port}`, { reconnectPeriod: 0 });
  stops.push(() => other.endAsync(true));
  await other.subscribeAsync('topic');
  expect(granted).toBe(40);
  passing(1);
  await others;
});

test('a JoinMarket directory drops lines of a connection above its limit, and no others', async () => {
  const lines: string[] = [];
  const server = createServer((socket) => socket.on('line', (line) => lines.push(line)));
  const guard = limitDirectory(server);
  stops.push(() => guard.close());
  const port = await listening(server);
  const join = async () => {
    const socket = connect(port, '127.0.0.1');
    stops.push(() => socket.destroy());
    await once(socket, 'connect');
    return socket;
  };
  const [flooder, maker] = [await join(), await join()];
  flooder.write('a\r\n'.repeat(1200));
  await until(() => guard.getStats().messages.dropped.rate === 200);
  maker.write('b\r\n');
  await until(() => lines.includes('b'));
  expect(lines).toHaveLength(1001);
  passing(1);
  flooder.write('c\r\n'.repeat(600));
  await until(() => guard.getStats().messages.dropped.rate === 300);
  expect(lines.filter((line) => line === 'c')).toHaveLength(500);
  expect(guard.getStats().connections.open).toBe(2);
});

test('docs/recipes.md shows the files that are tested', () => {
  const page = readFileSync(new URL('../../docs/recipes.md', import.meta.url), 'utf8');
  const folder = new URL('../../examples/recipes/', import.meta.url);
  for (const name of readdirSync(folder)) {
    const language = { '.ts': 'ts', '.mjs': 'js' }[extname(name)] ?? '';
    const text = readFileSync(new URL(name, folder), 'utf8');
    expect(page).toContain(`\`\`\`${language}\n${text}\`\`\``);
  }
});
