// Subscriptions to sharded channels: the hash slot of a channel, and connections that end at any moment.

import { describe, expect, it } from 'vitest';
import {
  hashSlotOf,
  type ShardConnection,
  ShardSubscriber,
} from '../../lib/redis/store/shard-subscriber.js';

describe('hashSlotOf', () => {
  // As CLUSTER KEYSLOT of a server replies.
  it.each([
    ['123456789', 12739],
    ['foo', 12182],
    ['any:{foo}:more', 12182],
    ['{foo', 13308],
    ['{}foo', 9500],
    ['ä{ä}', 13929],
  ])('maps %s to the slot %i', (key, slot) => {
    expect(hashSlotOf(key)).toBe(slot);
  });
});

describe('ShardSubscriber', () => {
  /** A subscriber, and what happens at its connection. */
  function subscriber() {
    const events: string[] = [];
    let opened = () => {};
    let subscribed = () => {};
    let ended: (reason: unknown) => void = () => {};
    const connection: ShardConnection = {
      subscribe: () => new Promise<void>((resolve) => (subscribed = resolve)),
      onEnd: (listener) => {
        ended = listener;
      },
      close: () => events.push('closed'),
    };
    const made = new ShardSubscriber(
      () => new Promise((resolve) => (opened = () => resolve(connection))),
    );
    made
      .subscribe(
        'channel',
        () => {},
        () => events.push('ready'),
        (reason) => events.push(`ended: ${reason}`),
      )
      .catch((reason) => events.push(`failed: ${reason}`));
    const turn = () => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    return {
      events,
      close: () => made.close(),
      open() {
        opened();
        return turn();
      },
      subscribe() {
        subscribed();
        return turn();
      },
      end(reason: string) {
        ended(reason);
        return turn();
      },
      turn,
    };
  }

  it('tells the end of a subscription once, and closes its connection after the listener has returned', async () => {
    const { events, open, subscribe, end } = subscriber();
    await open();
    await subscribe();
    const ending = end('moved');
    expect(events).toEqual(['ready', 'ended: moved']);
    await ending;
    await end('socket closed');
    expect(events).toEqual(['ready', 'ended: moved', 'closed', 'closed']);
  });

  it('fails if the connection ends before it has subscribed', async () => {
    const { events, open, subscribe, end } = subscriber();
    await open();
    await end('refused');
    await subscribe();
    expect(events).toEqual(['failed: refused', 'closed']);
  });

  it('closes a connection that opens after it was closed itself', async () => {
    const { events, open, close, turn } = subscriber();
    close();
    await turn();
    await open();
    expect(events.at(-1)).toBe('closed');
    expect(events).toHaveLength(2);
  });

  it('tells no end that close() has caused', async () => {
    const { events, open, subscribe, close, turn } = subscriber();
    await open();
    await subscribe();
    close();
    await turn();
    expect(events).toEqual(['ready', 'closed']);
  });
});
