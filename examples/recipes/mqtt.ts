// Limits for aedes, an MQTT broker. MQTT has no reply that means "later", but a broker may delay a message: aedes stops
// reading from a client while a message of that client waits, so TCP slows the client down.

import type { Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import type { AedesOptions, Client } from 'aedes';
import { RateLimiter } from 'relay-limiter';
import { addressKey, connectionKey } from 'relay-limiter/address';

const LONGEST_WAIT = 30;
const TOO_MUCH = new Error('rate limit exceeded');

/** For `Aedes.createBroker(limits())`. */
export function limits(): AedesOptions {
  const connects = new RateLimiter({ rateLimit: 1, burstLimit: 20 });
  const messages = new RateLimiter({ rateLimit: 20, burstLimit: 40 });
  const bytes = new RateLimiter({ rateLimit: 32_000, burstLimit: 256_000 });
  const turns = new WeakMap<Client, Promise<boolean>>();

  /** Processes messages one after the other: aedes starts all messages of a chunk at once. */
  const inTurn = (client: Client, size: number): Promise<boolean> => {
    const last = turns.get(client) ?? Promise.resolve(true);
    const turn = last.then(
      async () => (await allowed(client, messages, 1)) && (await allowed(client, bytes, size)),
    );
    turns.set(client, turn);
    return turn;
  };

  return {
    // By address: the client chooses its client id, but not its address.
    preConnect(client, _packet, answer) {
      const { remoteAddress } = client.conn as Socket;
      const [action] = remoteAddress ? connects.check(addressKey(remoteAddress)) : ['allow'];
      client.conn.once('close', () => {
        for (const limiter of [messages, bytes]) limiter.removePeer(connectionKey(client.conn));
      });
      answer(null, action === 'allow');
    },

    authorizePublish(client, packet, answer) {
      // Without a client, the broker itself publishes the message.
      if (client === null) return answer(null);
      const size = packet.topic.length + packet.payload.length;
      inTurn(client, size).then((isAllowed) => answer(isAllowed ? null : TOO_MUCH), answer);
    },

    // Each subscription costs as much as a message, because the broker stores it for a long time.
    authorizeSubscribe(client, subscription, answer) {
      const granted = (isAllowed: boolean) =>
        isAllowed ? answer(null, subscription) : answer(TOO_MUCH);
      inTurn(client, subscription.topic.length).then(granted, answer);
    },
  };
}

/** Resolves with true when the limiter allows the message; with false if that would take too long. */
async function allowed(client: Client, limiter: RateLimiter, cost: number): Promise<boolean> {
  while (!client.conn.destroyed) {
    const [action, delaySeconds] = limiter.check(connectionKey(client.conn), cost);
    if (action === 'allow') return true;
    if (delaySeconds > LONGEST_WAIT) return false;
    await setTimeout(Math.ceil(delaySeconds * 1000) + 1);
  }
  return false;
}
