// The relay of examples/relay end to end: real sockets and clients, and limits by a clock that stands.

import { verify } from 'node:crypto';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { hasManyAddresses, honestAddress } from '../out/examples/relay/demo/addresses.js';
import { LimitingGuard, NO_GUARD } from '../out/examples/relay/guard.js';
import { Relay } from '../out/examples/relay/relay.js';
import { manualClock } from './support/limiters.js';
import { Client } from './support/relay-client.js';

let relay: Relay;

beforeEach(async () => {
  const guard = new LimitingGuard({ clock: manualClock() });
  // A peer on a slow machine is not cut before it has read why it is closed.
  guard.limits.closeGraceSeconds = 600;
  relay = await Relay.listen(0, guard);
});

afterEach(() => relay.close());

describe('passing messages on', () => {
  it('sends public messages to everyone else', async () => {
    const [ann, bob, cat] = await joinAll('ann', 'bob', 'cat');
    ann.send({ type: 'public', text: 'good morning' });
    const expected = { type: 'public', from: 'ann', text: 'good morning' };
    expect(await bob.next('public')).toEqual(expected);
    expect(await cat.next('public')).toEqual(expected);
    await ann.caughtUp();
    expect(ann.received).toEqual([]);
  });

  it('sends private messages to one nick, and says when there is none', async () => {
    const [ann, bob, cat] = await joinAll('ann', 'bob', 'cat');
    ann.send({ type: 'private', to: 'bob', text: 'psst' });
    ann.send({ type: 'private', to: 'nobody', text: 'psst' });
    expect(await bob.next('private')).toEqual({ type: 'private', from: 'ann', text: 'psst' });
    expect(await ann.next('error')).toEqual({
      type: 'error',
      reason: 'nobody here is called nobody',
    });
    await cat.caughtUp();
    expect(cat.received).toEqual([]);
  });

  it('answers !orderbook with a signature that holds', async () => {
    const ann = new Client(relay.port);
    await once(ann.socket, 'open');
    ann.send({ type: 'hello', nick: 'ann' });
    const { publicKey } = await ann.next('welcome');
    ann.send({ type: 'public', text: '!orderbook' });
    const { book, signature } = await ann.next('orderbook');
    expect(JSON.parse(book).for).toBe('ann');
    expect(verify('sha256', Buffer.from(book), publicKey, Buffer.from(signature, 'base64'))).toBe(
      true,
    );
  });

  it('gives each nick to one peer at a time', async () => {
    const [ann, bob] = await joinAll('ann', 'bob');
    ann.send({ type: 'nick', nick: 'bob' });
    expect((await ann.next('error')).reason).toBe('the nick bob is taken');
    bob.send({ type: 'nick', nick: 'rob' });
    await bob.next('nick');
    ann.send({ type: 'nick', nick: 'bob' });
    expect(await ann.next('nick')).toEqual({ type: 'nick', nick: 'bob' });
  });
});

describe('malformed messages', () => {
  const hello = JSON.stringify({ type: 'hello', nick: 'ann' });
  it.each<[string, string | Buffer, RegExp]>([
    ['no JSON', '{"type":', /not JSON/],
    ['no object', '[1]', /not a JSON object/],
    ['null', 'null', /not a JSON object/],
    ['no type', '{}', /"type" must be/],
    ['an unknown type', '{"type":"__proto__"}', /"type" must be/],
    ['a type that is no string', '{"type":["public"]}', /"type" must be/],
    ['no nick', '{"type":"hello"}', /"nick" must be/],
    ['a nick with spaces', '{"type":"nick","nick":"a b"}', /"nick" must be/],
    ['no text', '{"type":"public"}', /"text" must be/],
    ['a text that is no string', '{"type":"public","text":1}', /"text" must be/],
    ['no receiver', '{"type":"private","text":"psst"}', /"to" must be/],
    ['a binary frame', Buffer.from(hello), /binary/],
    ['a message that is too long', JSON.stringify({ text: 'x'.repeat(5000) }), /longer than/],
    ['hello twice', hello, /said already/],
  ])('%s is answered, and a violation', async (_, frame, reason) => {
    const [ann] = await joinAll('ann');
    ann.socket.send(frame);
    expect((await ann.next('error')).reason).toMatch(reason);
    ann.send({ type: 'nick', nick: 'still_here' });
    await ann.next('nick');
    expect(relay.counts().delayed).toBe(1);
  });

  it('a message before hello is answered', async () => {
    const client = new Client(relay.port);
    await once(client.socket, 'open');
    client.send({ type: 'public', text: 'who am I' });
    expect((await client.next('error')).reason).toBe('say hello first');
  });

  it('a frame too large to be read closes its connection, and no other', async () => {
    const [ann, bob] = await joinAll('ann', 'bob');
    ann.socket.send('x'.repeat(1 << 20));
    expect((await ann.closed).code).toBe(1009);
    bob.send({ type: 'nick', nick: 'rob' });
    await bob.next('nick');
  });

  it('too many of them close the connection', async () => {
    const [ann] = await joinAll('ann');
    for (let i = 0; i < 200; i++) ann.socket.send('nonsense');
    expect((await ann.closed).code).toBe(1008);
  });
});

describe('the guard', () => {
  it('expels a flooder, and honest peers notice little', async () => {
    const [flooder, ann, bob] = await joinAll('flooder', 'ann', 'bob');
    flood(flooder);
    ann.send({ type: 'private', to: 'bob', text: 'psst' });
    expect((await bob.next('private')).text).toBe('psst');
    expect(await flooder.closed).toEqual({ code: 1008, reason: 'too many messages' });
    await bob.caughtUp();
    // The burst, without the hello.
    expect(bob.received).toHaveLength(59);
    expect(relay.counts().disconnected).toBe(1);
    // Notices are no second flood.
    expect(flooder.received.filter(({ type }) => type === 'notice')).toHaveLength(3);
  });

  it('counts pings as messages', async () => {
    const [flooder] = await joinAll('flooder');
    // One at a time: many at once are too much for the WebSocket library already.
    while (flooder.socket.readyState === WebSocket.OPEN) {
      await Promise.race([flooder.caughtUp(), flooder.closed]);
    }
    expect((await flooder.closed).code).toBe(1008);
  });

  it('drops private messages beyond their own limit', async () => {
    const [ann, bob] = await joinAll('ann', 'bob');
    for (let i = 0; i < 30; i++) ann.send({ type: 'private', to: 'bob', text: 'psst' });
    expect((await ann.next('notice')).text).toBe('dropped: too many private messages');
    await ann.caughtUp();
    await bob.caughtUp();
    expect(bob.received).toHaveLength(20);
    expect(ann.socket.readyState).toBe(WebSocket.OPEN);
  });

  it('stops an !orderbook spammer whatever nick it takes', async () => {
    const [spammer] = await joinAll('spammer');
    for (let i = 0; i < 20; i++) {
      spammer.send({ type: 'nick', nick: `spammer_${i}` });
      spammer.send({ type: 'public', text: '!orderbook' });
    }
    const { code, reason } = await spammer.closed;
    expect({ code, reason }).toEqual({
      code: 1008,
      reason: 'banned for too many !orderbook requests',
    });
    expect(spammer.received.filter(({ type }) => type === 'orderbook')).toHaveLength(1);
    expect(relay.counts().bans).toBe(1);
  });

  it('holds a nick to its interval across connections', async () => {
    const [first] = await joinAll('ann');
    first.send({ type: 'public', text: '!orderbook' });
    await first.next('orderbook');
    first.socket.close();
    await connections(0);
    const [second] = await joinAll('ann');
    second.send({ type: 'public', text: '!orderbook' });
    expect((await second.next('notice')).text).toMatch(/one !orderbook every/);
  });

  it('refuses an attacker that comes back, and keeps who shares its address', async () => {
    const [ann, bob] = await joinAll('ann', 'bob');
    for (let i = 0; i < 3; i++) {
      const [attacker] = await joinAll('attacker');
      flood(attacker);
      await connections(2);
    }
    expect(await new Client(relay.port).refusal()).toBe(429);
    expect(relay.counts()).toMatchObject({ bans: 1, refused: 1 });
    ann.send({ type: 'private', to: 'bob', text: 'psst' });
    await bob.next('private');
    if (await hasManyAddresses()) await Client.join(relay.port, 'cat', honestAddress(0));
  });

  it('refuses an address that connects too often', async () => {
    const clients = Array.from({ length: 40 }, () => new Client(relay.port));
    const answers = clients.map((client) =>
      Promise.race([client.refusal(), once(client.socket, 'open').then(() => 101)]),
    );
    const statuses = (await Promise.all(answers)).sort();
    expect(statuses).toEqual([...Array(20).fill(101), ...Array(20).fill(429)]);
    expect(relay.counts()).toMatchObject({ connections: 20, refused: 20 });
  });

  it('forgets connections that are closed', async () => {
    const [ann, bob, flooder] = await joinAll('ann', 'bob', 'flooder');
    ann.send({ type: 'private', to: 'bob', text: 'psst' });
    await bob.next('private');
    // Each for its messages, and Ann for her private one.
    expect(relay.counts().tracked).toBe(4);
    flood(flooder);
    ann.socket.close();
    bob.socket.terminate();
    await connections(0);
    expect(relay.counts().tracked).toBe(0);
  });
});

describe('without a guard', () => {
  it('a peer that does not read misses messages instead of filling the memory', async () => {
    relay.close();
    relay = await Relay.listen(0, NO_GUARD);
    const [sleeper, ann] = await joinAll('sleeper', 'ann');
    sleeper.socket.pause();
    const text = 'x'.repeat(4000);
    // Until the system's buffers are full, whatever their size, and one megabyte of the relay's.
    while (relay.counts().missed === 0) {
      for (let i = 0; i < 500; i++) ann.send({ type: 'public', text });
      await ann.caughtUp();
    }
  });
});

/** As many clients as nicks; a tuple, so that each can be named. */
async function joinAll<Nicks extends string[]>(
  ...nicks: Nicks
): Promise<{ [Index in keyof Nicks]: Client }> {
  const clients = nicks.map((nick) => Client.join(relay.port, nick));
  return (await Promise.all(clients)) as { [Index in keyof Nicks]: Client };
}

/** Sends far more than is allowed. */
function flood(client: Client): void {
  for (let i = 0; i < 1000; i++) client.send({ type: 'public', text: `spam ${i}` });
}

/** Resolves when the relay has that many connections left. */
async function connections(left: number): Promise<void> {
  await expect.poll(() => relay.counts().connections).toBe(left);
}
