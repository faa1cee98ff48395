// Subscribers to sharded channels of a cluster (SSUBSCRIBE, Redis 7): each has a connection of its own to the server that has
// the channel's hash slot. The clients' own sharded subscriptions are not used, because most versions lose them when the
// slot moves to another server.

import { timeoutError } from './replies.js';
import type { Subscriber } from './subscriber.js';
import { startTimer } from './timing.js';

/** A connection to one server, not yet opened. It does not have to connect again once it is lost. */
export interface ShardConnection {
  /** Connects and subscribes. */
  subscribe(channel: string, onMessage: (message: string) => void): Promise<unknown>;
  /** Calls a listener with a reason, at least once, if the connection is lost or the channel moves to another server. */
  onEnd(listener: (reason: unknown) => void): void;
  close(): void;
}

/** The client does not know yet which server has a hash slot. */
export class NoServerError extends Error {
  constructor(slot: number) {
    super(`the client knows no server of the hash slot ${slot}`);
  }
}

/** The longest time that a subscription may take, in seconds: a client may wait for a server that is gone. */
const OPEN_SECONDS = 5;
const SLOTS = 16_384;

export class ShardSubscriber implements Subscriber {
  readonly #connect: (slot: number) => Promise<ShardConnection>;
  #end: ((reason: unknown) => void) | undefined;
  #isClosed = false;

  /** `connect`: returns a connection to the server of a hash slot. Rejects with NoServerError while the client knows no such server. */
  constructor(connect: (slot: number) => Promise<ShardConnection>) {
    this.#connect = connect;
  }

  /** Subscribes once. When the subscription ends, `onEnd` is called; then another subscriber is needed. */
  subscribe(
    channel: string,
    onMessage: (message: string) => void,
    onReady: () => void,
    onEnd: (reason: unknown) => void,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      let connection: ShardConnection | undefined;
      let state: 'opening' | 'open' | 'ended' = 'opening';
      const end = (reason: unknown) => {
        const before = state;
        state = 'ended';
        // Later: node-redis never returns if it is closed by a listener while it reads a message.
        const ended = connection;
        if (ended !== undefined) setImmediate(() => ended.close());
        clearTimeout(timer);
        if (before === 'opening') reject(reason);
        else if (before === 'open' && !this.#isClosed) onEnd(reason);
      };
      const timer = startTimer(() => end(timeoutError()), OPEN_SECONDS * 1000);
      this.#end = end;
      const open = async () => {
        const opened = await this.#connect(hashSlotOf(channel));
        opened.onEnd(end);
        if (state === 'ended') {
          opened.close();
          return;
        }
        connection = opened;
        await opened.subscribe(channel, (message) => {
          if (state !== 'ended') onMessage(message);
        });
        if (state !== 'opening') return;
        state = 'open';
        clearTimeout(timer);
        resolve();
        onReady();
      };
      open().catch(end);
    });
  }

  close(): void {
    this.#isClosed = true;
    this.#end?.(new Error('closed'));
  }
}

/** The hash slot of a key or channel: a CRC-16 of what is between the first braces, or of everything. */
export function hashSlotOf(key: string): number {
  const open = key.indexOf('{');
  const close = key.indexOf('}', open + 1);
  const hashed = open >= 0 && close > open + 1 ? key.slice(open + 1, close) : key;
  let crc = 0;
  for (const byte of Buffer.from(hashed)) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit += 1) {
      crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : (crc << 1) & 0xffff;
    }
  }
  return crc % SLOTS;
}
