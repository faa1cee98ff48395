// The user's own client, whichever it is: node-redis (a client, a cluster, a pool, a sentinel) or
// ioredis (a client, a cluster) and what is shaped like them. It is told by its methods, never imported.
// Knows how scripts and channels are called; nothing of limits.

import { refused } from '../../errors.js';
import { hasMethods } from '../../kinds.js';

/** What a store does for this package. Replies are what Lua returns; an error of the store's rejects. */
export interface StoreClient {
  /** Whether keys lie on several servers. */
  readonly isCluster: boolean;
  evalSha(sha: string, keys: string[], args: string[]): Promise<unknown>;
  eval(text: string, keys: string[], args: string[]): Promise<unknown>;
  /**
   * Listens to a channel over a connection of its own, and again whenever that is lost. `onReady` is called
   * each time it listens anew: what was said in between it has missed.
   */
  subscribe(
    channel: string,
    onMessage: (message: string) => void,
    onReady: () => void,
  ): Promise<Subscription>;
  /** Lets go of the client, which stays open: it is the user's. */
  release(): void;
}

export interface Subscription {
  close(): void;
}

type Listener = (...args: never[]) => void;

interface Emitter {
  on(event: string, listener: Listener): unknown;
  off(event: string, listener: Listener): unknown;
}

interface NodeRedis extends Emitter {
  readonly isReady?: boolean;
  evalSha(sha: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>;
  eval(text: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>;
  duplicate?(): NodeRedis;
  connect(): Promise<unknown>;
  subscribe?(channel: string, listener: (message: string) => void): Promise<unknown>;
  destroy?(): unknown;
}

interface IoRedis extends Emitter {
  readonly isCluster?: boolean;
  evalsha(sha: string, keyCount: number, ...keysAndArgs: string[]): Promise<unknown>;
  eval(text: string, keyCount: number, ...keysAndArgs: string[]): Promise<unknown>;
  duplicate(): IoRedis;
  subscribe(channel: string): Promise<unknown>;
  disconnect(): void;
}

/** A client of node-redis or ioredis, as the user made it. */
export type RedisClient = object;

/** @throws `ERR_LIMITER_OPTION` for what is neither. */
export function storeClient(client: unknown): StoreClient {
  if (has<NodeRedis>(client, ['evalSha', 'eval', 'connect', 'on', 'off']))
    return ofNodeRedis(client);
  if (has<IoRedis>(client, ['evalsha', 'eval', 'duplicate', 'on', 'off'])) return ofIoRedis(client);
  throw refused('ERR_LIMITER_OPTION', 'client', client, 'a client of node-redis or ioredis');
}

function has<T extends object>(client: unknown, methods: readonly string[]): client is T {
  return typeof client === 'object' && hasMethods(client, ...methods);
}

function ofNodeRedis(client: NodeRedis): StoreClient {
  return {
    isCluster: 'slots' in client && 'masters' in client,
    evalSha: (sha, keys, args) => client.evalSha(sha, { keys, arguments: args }),
    eval: (text, keys, args) => client.eval(text, { keys, arguments: args }),
    async subscribe(channel, onMessage, onReady) {
      const own = client.duplicate?.();
      if (own?.subscribe === undefined) throw cannotListen();
      const subscribe = async () => {
        await own.connect();
        await own.subscribe?.(channel, onMessage);
      };
      return listen(own, subscribe, () => destroy(own), onReady);
    },
    release: survive(client),
  };
}

/** Both kinds resubscribe by themselves when they have connected again, and say `ready` before they have. */
async function listen(
  own: Emitter,
  subscribe: () => Promise<unknown>,
  close: () => void,
  onReady: () => void,
): Promise<Subscription> {
  own.on('error', () => {});
  own.on('ready', () => setImmediate(onReady));
  try {
    await subscribe();
  } catch (error) {
    close();
    throw error;
  }
  onReady();
  return { close };
}

/** Clients that were never open, or have ended already, throw when they are ended. */
function destroy(client: NodeRedis): void {
  try {
    client.destroy?.();
  } catch {}
}

function ofIoRedis(client: IoRedis): StoreClient {
  return {
    isCluster: client.isCluster === true,
    evalSha: (sha, keys, args) => client.evalsha(sha, keys.length, ...keys, ...args),
    eval: (text, keys, args) => client.eval(text, keys.length, ...keys, ...args),
    async subscribe(channel, onMessage, onReady) {
      const own = client.duplicate();
      own.on('message', (from: string, message: string) => {
        if (from === channel) onMessage(message);
      });
      return listen(
        own,
        () => own.subscribe(channel),
        () => own.disconnect(),
        onReady,
      );
    },
    release: survive(client),
  };
}

function cannotListen(): Error {
  const accepted = 'a client that can be duplicated, to listen to a channel';
  return refused('ERR_LIMITER_OPTION', 'client', 'a pool', accepted);
}

/** A client nobody listens to ends the process when its connection fails. What failed, callers are told. */
function survive(client: Emitter): () => void {
  const ignore = () => {};
  client.on('error', ignore);
  return () => void client.off('error', ignore);
}
