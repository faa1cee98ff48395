// Attackers of the example relay: sockets that do not speak WebSocket, or speak it badly.

import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import type { Relay } from '../../out/examples/relay/relay.js';
import type { ManualClock } from './limiters.js';
import { type Random, seeded } from './random.js';
import type { Client } from './relay-client.js';

const AT_ONCE = 30;
/** Seconds between two attackers, by the relay's clock. */
const SECONDS_APART = 0.1;
/** Attackers for each word of an honest client. */
const ATTACKERS_PER_WORD = 8;

const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PING = 9;

interface Frame {
  readonly opcode: number;
  readonly payload: Buffer;
  readonly fin?: boolean;
  /** Three bits. */
  readonly reserved?: number;
  readonly masked?: boolean;
  /** What the header says, in eight bytes, whatever the payload is. */
  readonly length?: bigint;
}

/** A frame as RFC 6455, 5.2 lays it out, right or wrong. */
function encode(random: Random, frame: Frame): Buffer {
  const { opcode, payload, fin = true, reserved = 0, masked = true, length } = frame;
  const first = (fin ? 0x80 : 0) | (reserved << 4) | opcode;
  const mask = masked ? 0x80 : 0;
  const key = masked ? bytes(random, 4) : Buffer.alloc(0);
  const body = masked ? payload.map((byte, i) => byte ^ (key[i % 4] as number)) : payload;
  return Buffer.concat([
    Buffer.from([first]),
    lengthField(mask, payload.length, length),
    key,
    body,
  ]);
}

function lengthField(mask: number, length: number, claimed: bigint | undefined): Buffer {
  if (claimed === undefined && length < 126) return Buffer.from([mask | length]);
  if (claimed === undefined && length < 65_536) {
    return Buffer.from([mask | 126, length >> 8, length & 0xff]);
  }
  const field = Buffer.alloc(9);
  field[0] = mask | 127;
  field.writeBigUInt64BE(claimed ?? BigInt(length), 1);
  return field;
}

function bytes(random: Random, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => random.below(256)));
}

const text = (words: string): Frame => ({ opcode: TEXT, payload: Buffer.from(words) });
const hello = (random: Random): Frame =>
  text(JSON.stringify({ type: 'hello', nick: `n${random.below(1e9)}` }));

/** What is said after a good handshake. */
const FRAMES: Record<string, (random: Random) => readonly Frame[]> = {
  'not masked': (random) => [{ ...hello(random), masked: false }],
  'reserved bits': (random) => [{ ...hello(random), reserved: 1 + random.below(7) }],
  'reserved opcodes': (random) => [
    { opcode: random.pick([3, 4, 5, 6, 7, 11, 12, 13, 14, 15]), payload: bytes(random, 9) },
  ],
  'a length beyond all bounds': (random) => [
    { ...hello(random), length: random.pick([2n ** 63n, 2n ** 64n - 1n, 2n ** 53n, 2n ** 31n]) },
  ],
  'a length that is not the shortest': (random) => [
    { opcode: TEXT, payload: bytes(random, 5), length: 5n },
  ],
  'more than is announced': (random) => [{ ...hello(random), length: 3n }],
  'less than is announced': (random) => [{ ...hello(random), length: 3000n }],
  'control frames that are too long': (random) => [
    { opcode: random.pick([CLOSE, PING, 10]), payload: bytes(random, 126 + random.below(2000)) },
  ],
  'control frames in fragments': (random) => [
    { opcode: PING, payload: bytes(random, 3), fin: false },
  ],
  'fragments that never end': (random) => [
    hello(random),
    { opcode: TEXT, payload: Buffer.from('{'), fin: false },
    ...Array.from({ length: 40 }, () => ({ opcode: 0, payload: bytes(random, 3000), fin: false })),
  ],
  'an end without a beginning': (random) => [{ opcode: 0, payload: bytes(random, 5) }],
  'a beginning within a beginning': (random) => [
    { ...hello(random), fin: false },
    { ...hello(random), fin: false },
  ],
  'no UTF-8': (random) => [
    hello(random),
    { opcode: TEXT, payload: Buffer.from([0xc3, 0x28, 0xff]) },
  ],
  'close codes that are none': (random) => [
    {
      opcode: CLOSE,
      payload: random.pick([[0], [0, 0], [3, 237], [255, 255, 65], [3, 232, 255]].map(Buffer.from)),
    },
  ],
  'what is no deflate': (random) => [{ opcode: TEXT, payload: bytes(random, 300), reserved: 4 }],
  'pings without end': (random) =>
    Array.from({ length: 150 }, () => ({
      opcode: PING,
      payload: bytes(random, random.below(126)),
    })),
  'binary frames': (random) => [hello(random), { opcode: BINARY, payload: bytes(random, 4000) }],
  'more than a message may have': (random) => [hello(random), text('x'.repeat(70_000))],
  'JSON that is none': (random) => [
    hello(random),
    ...Array.from({ length: 9 }, () => text(random.pick(BAD_JSON))),
  ],
  'a good message with one bit wrong': (random) => {
    const good = JSON.stringify({ type: 'public', text: '!orderbook' });
    const spoilt = Buffer.from(good);
    const at = random.below(spoilt.length);
    spoilt[at] = (spoilt[at] as number) ^ (1 << random.below(8));
    return [hello(random), { opcode: TEXT, payload: spoilt }];
  },
  noise: (random) =>
    Array.from({ length: 5 }, () => ({
      opcode: random.below(16),
      payload: bytes(random, random.below(300)),
      fin: random() < 0.5,
      reserved: random() < 0.8 ? 0 : random.below(8),
      masked: random() < 0.9,
    })),
};

const BAD_JSON = [
  '',
  '\0',
  'nul',
  '{"type":"public","text":',
  '['.repeat(4000),
  '{"a":'.repeat(800),
  `${'['.repeat(2000)}${']'.repeat(2000)}`,
  '{"type":"hello","nick":{"toString":null}}',
  '{"__proto__":{"type":"public"},"text":"x"}',
  '{"type":"private","to":"__proto__","text":"x"}',
  '{"type":"nick","nick":"constructor"}',
  '{"type":"public","text":1e999}',
  '{"type":"public","type":"hello","nick":"\\ud800"}',
  '{"length":1e9,"type":["public"]}',
];

const KEY = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n';
const UPGRADE = 'Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n';
export const HANDSHAKE = `GET / HTTP/1.1\r\nHost: relay\r\n${UPGRADE}${KEY}\r\n`;

export const HANDSHAKES: Record<string, (random: Random) => string | Buffer> = {
  'no HTTP at all': (random) => bytes(random, 1 + random.below(3000)),
  'half a request': (random) => HANDSHAKE.slice(0, random.below(HANDSHAKE.length)),
  'no key': () => `GET / HTTP/1.1\r\nHost: relay\r\n${UPGRADE}\r\n`,
  'a key that is none': () =>
    `GET / HTTP/1.1\r\nHost: relay\r\n${UPGRADE}Sec-WebSocket-Key: x\r\n\r\n`,
  'another version': () => HANDSHAKE.replace(': 13', ': 12'),
  'another method': () => HANDSHAKE.replace('GET', 'POST'),
  'another protocol': () => HANDSHAKE.replace('websocket', 'h2c'),
  'headers without end': () => `GET / HTTP/1.1\r\n${'X: y\r\n'.repeat(5000)}`,
  'one header that is too long': () => `GET / HTTP/1.1\r\nX: ${'y'.repeat(100_000)}\r\n\r\n`,
  'one bit wrong': (random) => {
    const spoilt = Buffer.from(HANDSHAKE);
    const at = random.below(spoilt.length);
    spoilt[at] = (spoilt[at] as number) ^ (1 << random.below(8));
    return spoilt;
  },
  'an offer of deflate that is none': () =>
    HANDSHAKE.replace(KEY, `${KEY}Sec-WebSocket-Extensions: permessage-deflate; =;;,\r\n`),
  'two requests at once': () => HANDSHAKE + HANDSHAKE,
};

export interface Attacks {
  readonly relay: Relay;
  /** Whose attackers they are. */
  readonly seed: number;
  readonly count: number;
  /** Whether each may come from an address of its own. */
  readonly manyAddresses: boolean;
  /** The relay's, which nobody else moves. */
  readonly clock: ManualClock;
  /** Speaks meanwhile. */
  readonly speaker: Client;
}

/** Resolves when the last attacker has gone, with what the speaker has said. */
export async function attackAll(attacks: Attacks): Promise<string[]> {
  const { relay, seed, count, manyAddresses, clock, speaker } = attacks;
  const words: string[] = [];
  let started = 0;
  const attackers = Array.from({ length: AT_ONCE }, async () => {
    while (started < count) {
      const n = started++;
      clock.now += SECONDS_APART;
      if (n % ATTACKERS_PER_WORD === 0) {
        words.push(`word ${n}`);
        speaker.send({ type: 'public', text: `word ${n}` });
      }
      const address = manyAddresses ? `127.1.${n % 20}.1` : '127.0.0.1';
      await attack(seeded(seed + n), relay.port, address, () => speaker.caughtUp());
    }
  });
  await Promise.all(attackers);
  return words;
}

/** One attacker, from its connection to its end, which comes after `patience` at the latest. */
async function attack(
  random: Random,
  port: number,
  localAddress: string,
  patience: () => Promise<void>,
): Promise<void> {
  const handshakes = Object.values(HANDSHAKES);
  const frames = Object.values(FRAMES);
  const nth = random.below(handshakes.length + 2 * frames.length);
  const socket = connect({ port, host: '127.0.0.1', localAddress, allowHalfOpen: true });
  // Refused, cut or reset: all of it is to be expected.
  socket.on('error', () => {});
  const gone = new Promise((resolve) => socket.on('close', resolve));
  const answered = new Promise((resolve) => socket.once('data', resolve));
  const handshake = handshakes[nth];
  if (handshake !== undefined) {
    await write(random, socket, Buffer.from(handshake(random) as string));
  } else {
    socket.write(HANDSHAKE);
    await Promise.race([answered, gone]);
    const said = random
      .pick(frames)(random)
      .map((frame) => encode(random, frame));
    await write(random, socket, Buffer.concat(said));
  }
  socket.resume();
  // Some hang up, some say that they will say no more, some wait.
  if (random() < 0.3) socket.destroy();
  else if (random() < 0.4) socket.end();
  await Promise.race([gone, patience()]);
  socket.destroy();
  await gone;
}

/** In one piece, or in pieces that break anywhere. */
async function write(random: Random, socket: Socket, data: Buffer): Promise<void> {
  const pieces = random.pick([1, 1, 2, 5]);
  socket.setNoDelay();
  for (let n = 0; n < pieces && !socket.destroyed; n += 1) {
    const end = n + 1 === pieces ? data.length : Math.ceil((data.length * (n + 1)) / pieces);
    socket.write(data.subarray(Math.ceil((data.length * n) / pieces), end));
    if (pieces > 1) await setImmediate();
  }
}

/** The HTTP status that a handshake is answered with. */
export async function statusOf(port: number, handshake: string): Promise<number> {
  const socket = connect(port, '127.0.0.1');
  socket.write(handshake);
  const [data] = await once(socket, 'data');
  socket.destroy();
  return Number(/^HTTP\/1\.1 (\d+)/.exec(String(data))?.[1]);
}
