// Adapters for the user's own client: node-redis (a client, a cluster, a pool, a sentinel), ioredis (a client, a
// cluster), and objects with the same methods. A client is recognized by its methods; neither library is imported.

import { nextTick } from 'node:process';
import { invalidValue } from '../../common/errors.js';
import { hasMethods } from '../../common/kinds.js';
import { NoServerError, type ShardConnection, ShardSubscriber } from './shard-subscriber.js';
import type { Subscriber } from './subscriber.js';
import { nowSeconds } from './timing.js';

/** What this package needs of a client. Replies are what Lua returns; an error of the store rejects. */
export interface StoreClient {
  /** Whether keys are spread over several servers. */
  readonly isCluster: boolean;
  evalSha(sha: string, keys: string[], args: string[]): Promise<unknown>;
  eval(text: string, keys: string[], args: string[]): Promise<unknown>;
  /**
   * Creates a second client for a subscription, since a subscribed connection takes no other commands.
   * @throws `ERR_LIMITER_OPTION` if the client has no duplicate() or its duplicate cannot subscribe.
   */
  duplicate(): Subscriber;
  /** Creates a client for a subscription to a sharded channel; undefined if this is no cluster or the client has no such command. */
  shardSubscriber(): Subscriber | undefined;
  /** The client's last `error` event, if it is a few seconds old: why it does not connect; else undefined. */
  lastError(): unknown;
  /** Stops using the client. It stays open, because it belongs to the user. */
  release(): void;
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
  sSubscribe?(channel: string, listener: (message: string) => void): Promise<unknown>;
  destroy?(): unknown;
  disconnect?(): unknown;
}

interface NodeRedisCluster extends NodeRedis {
  readonly slots: readonly ({ readonly master?: object } | undefined)[];
  nodeClient?(node: object): NodeRedis | Promise<NodeRedis>;
  sendCommand(firstKey: string, isReadonly: boolean, args: string[]): Promise<unknown>;
}

/** A stream of Node. */
interface Corkable {
  cork(): void;
  uncork(): void;
}

interface IoRedis extends Emitter {
  /** The connection; undefined before the first one, and for a cluster. */
  readonly stream?: Corkable;
  readonly isCluster?: boolean;
  readonly options?: { readonly host?: string; readonly port?: number };
  /** Of a cluster: addresses by hash slot, the master's first. */
  readonly slots?: readonly (readonly string[] | undefined)[];
  nodes?(role: 'master'): IoRedis[];
  evalsha(sha: string, keyCount: number, ...keysAndArgs: string[]): Promise<unknown>;
  eval(text: string, keyCount: number, ...keysAndArgs: string[]): Promise<unknown>;
  duplicate(override?: object, options?: object): IoRedis;
  subscribe(channel: string): Promise<unknown>;
  ssubscribe?(channel: string): Promise<unknown>;
  destroy?(): unknown;
  disconnect?(): unknown;
}

/** @throws `ERR_LIMITER_OPTION` if the client is neither of node-redis nor of ioredis. */
export function createStoreClient(client: unknown): StoreClient {
  if (isClient<NodeRedis>(client, ['evalSha', 'eval', 'connect', 'on', 'off'])) {
    return ofNodeRedis(client);
  }
  if (isClient<IoRedis>(client, ['evalsha', 'eval', 'duplicate', 'on', 'off'])) {
    return ofIoRedis(client);
  }
  throw invalidValue('ERR_LIMITER_OPTION', 'client', client, 'a client of node-redis or ioredis');
}

function isClient<T extends object>(client: unknown, methods: readonly string[]): client is T {
  return typeof client === 'object' && hasMethods(client, ...methods);
}

function ofNodeRedis(client: NodeRedis): StoreClient {
  return {
    isCluster: isNodeRedisCluster(client),
    ...(isMisrouting(client)
      ? { evalSha: routed(client, 'EVALSHA'), eval: routed(client, 'EVAL') }
      : {
          evalSha: (sha, keys, args) => client.evalSha(sha, { keys, arguments: args }),
          eval: (text, keys, args) => client.eval(text, { keys, arguments: args }),
        }),
    duplicate() {
      const own = client.duplicate?.();
      if (own?.subscribe === undefined) throw cannotSubscribe(client);
      return {
        subscribe(channel, onMessage, onReady) {
          const subscribe = async () => {
            await own.connect();
            await own.subscribe?.(channel, onMessage);
          };
          return keepSubscribed(own, subscribe, onReady);
        },
        close: () => void disconnect(own),
      };
    },
    shardSubscriber() {
      if (!isNodeRedisCluster(client) || client.nodeClient === undefined) return undefined;
      return new ShardSubscriber((slot) => connectNodeRedis(client, slot));
    },
    ...ignoreErrors(client),
  };
}

function isNodeRedisCluster(client: NodeRedis): client is NodeRedisCluster {
  return 'slots' in client && 'masters' in client;
}

/**
 * Before version 5 a cluster of node-redis sends a script to a random server. Most reply MOVED, and the client then reloads
 * its slots (node-redis #2811).
 */
function isMisrouting(client: NodeRedis): client is NodeRedisCluster {
  const isOld = client.destroy === undefined;
  return isOld && isNodeRedisCluster(client) && typeof client.sendCommand === 'function';
}

/** Calls scripts on the server of their first key. */
function routed(cluster: NodeRedisCluster, command: string): StoreClient['eval'] {
  return (script, keys, args) => {
    const words = [command, script, String(keys.length), ...keys, ...args];
    return cluster.sendCommand(keys[0] as string, false, words);
  };
}

async function connectNodeRedis(cluster: NodeRedisCluster, slot: number): Promise<ShardConnection> {
  const node = cluster.slots[slot]?.master;
  const own = node && (await cluster.nodeClient?.(node))?.duplicate?.();
  if (own === undefined) throw new NoServerError(slot);
  return {
    async subscribe(channel, onMessage) {
      await own.connect();
      if (own.sSubscribe === undefined) throw new Error('the client has no sSubscribe()');
      await own.sSubscribe(channel, onMessage);
    },
    // The last two are one event, by its names in different versions.
    onEnd: (listener) => {
      for (const event of ['error', 'end', 'server-sunsubscribe', 'sharded-channel-moved']) {
        own.on(event, () => listener(endOf(event)));
      }
    },
    close: () => void disconnect(own),
  };
}

function ofIoRedis(client: IoRedis): StoreClient {
  const writes = new JoinedWrites(client);
  return {
    isCluster: client.isCluster === true,
    evalSha(sha, keys, args) {
      writes.join();
      // The common case, without spreading arrays.
      if (keys.length === 1 && args.length === 1) {
        return client.evalsha(sha, 1, keys[0] as string, args[0] as string);
      }
      return client.evalsha(sha, keys.length, ...keys, ...args);
    },
    eval: (text, keys, args) => client.eval(text, keys.length, ...keys, ...args),
    duplicate() {
      // A client without an offline queue would refuse to subscribe before it is connected.
      const options = { enableOfflineQueue: true };
      const own = client.isCluster ? client.duplicate([], options) : client.duplicate(options);
      return {
        subscribe(channel, onMessage, onReady) {
          own.on('message', (from: string, message: string) => {
            if (from === channel) onMessage(message);
          });
          return keepSubscribed(own, () => own.subscribe(channel), onReady);
        },
        close: () => void disconnect(own),
      };
    },
    shardSubscriber() {
      if (!client.isCluster || client.nodes === undefined) return undefined;
      return new ShardSubscriber((slot) => connectIoRedis(client, slot));
    },
    ...ignoreErrors(client),
  };
}

/**
 * Lets a client write the calls of one turn of the event loop together, except the first: so a single call is written at
 * once, also if the turn goes on for long. ioredis writes each call by a system call of its own, which takes longer than all
 * else that it does for a call. What else is written to the connection in that turn stays in its order.
 */
class JoinedWrites {
  readonly #client: IoRedis;
  #isFirst = true;
  /** The connection that holds back its writes until the turn ends. */
  #held: Corkable | undefined;
  readonly #endTurn = () => {
    this.#held?.uncork();
    this.#held = undefined;
    this.#isFirst = true;
  };

  constructor(client: IoRedis) {
    this.#client = client;
  }

  /** Called before each call. */
  join(): void {
    if (this.#isFirst) {
      this.#isFirst = false;
      nextTick(this.#endTurn);
      return;
    }
    const { stream } = this.#client;
    if (stream === this.#held || typeof stream?.cork !== 'function') return;
    this.#held?.uncork();
    this.#held = stream;
    stream.cork();
  }
}

async function connectIoRedis(cluster: IoRedis, slot: number): Promise<ShardConnection> {
  const address = cluster.slots?.[slot]?.[0];
  const node = cluster
    .nodes?.('master')
    .find(({ options }) => `${options?.host}:${options?.port}` === address);
  if (node === undefined) throw new NoServerError(slot);
  const options = { lazyConnect: false, enableOfflineQueue: true, retryStrategy: null };
  const own = node.duplicate(options);
  return {
    async subscribe(channel, onMessage) {
      if (own.ssubscribe === undefined) throw new Error('the client has no ssubscribe()');
      own.on('smessage', (from: string, message: string) => {
        if (from === channel) onMessage(message);
      });
      await own.ssubscribe(channel);
    },
    onEnd: (listener) => {
      for (const event of ['error', 'close', 'end', 'moved']) {
        own.on(event, () => listener(endOf(event)));
      }
    },
    close: () => void disconnect(own),
  };
}

function endOf(event: string): Error {
  return new Error(`the sharded subscription has ended by the event '${event}'`);
}

/** Both libraries resubscribe by themselves after a reconnection, and emit `ready` shortly before they have done so. */
async function keepSubscribed(
  own: NodeRedis | IoRedis,
  subscribe: () => Promise<unknown>,
  onReady: () => void,
): Promise<void> {
  own.on('error', () => {});
  own.on('ready', () => setImmediate(onReady));
  try {
    await subscribe();
  } catch (error) {
    void disconnect(own);
    throw error;
  }
  onReady();
}

/** Ends a connection. The libraries throw or reject if it was never open or has been closed already. */
async function disconnect(own: NodeRedis | IoRedis): Promise<void> {
  try {
    if (own.destroy !== undefined) await own.destroy();
    else await own.disconnect?.();
  } catch {}
}

function cannotSubscribe(client: unknown): Error {
  const accepted = 'a client with duplicate(), to subscribe to a channel';
  return invalidValue('ERR_LIMITER_OPTION', 'client', client, accepted);
}

/** The last `error` event of a client is no reason for a failure any more after so many seconds. */
const ERROR_SECONDS = 10;

/** The listener to a client's `error` event. */
interface ErrorListener {
  /** How many users of this package share it. */
  users: number;
  last: unknown;
  at: number;
  readonly listen: (error: unknown) => void;
}

/** The listener of each client. */
const listeners = new WeakMap<Emitter, ErrorListener>();

/**
 * Keeps failures of the client's connection from ending the process, as an `error` event without a listener would.
 * Callers learn of failures from their calls. A client has one listener, however many limits and bans use it.
 */
function ignoreErrors(client: Emitter): Pick<StoreClient, 'lastError' | 'release'> {
  const listener = listeners.get(client) ?? createErrorListener();
  listeners.set(client, listener);
  if (listener.users === 0) client.on('error', listener.listen);
  listener.users += 1;
  let isUsed = true;
  return {
    lastError: () => (nowSeconds() - listener.at < ERROR_SECONDS ? listener.last : undefined),
    release() {
      if (!isUsed) return;
      isUsed = false;
      listener.users -= 1;
      if (listener.users === 0) client.off('error', listener.listen);
    },
  };
}

function createErrorListener(): ErrorListener {
  const listener: ErrorListener = {
    users: 0,
    last: undefined,
    at: Number.NEGATIVE_INFINITY,
    listen(error) {
      listener.last = error;
      listener.at = nowSeconds();
    },
  };
  return listener;
}
