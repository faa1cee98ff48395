// The store as a shared quota uses it: one key on one shard, and one script.

import { createStoreClient, type StoreClient } from '../store/client.js';
import { Deadlines } from '../store/deadlines.js';
import { isNumeric } from '../store/replies.js';
import { CallbackCall } from '../store/script-call.js';
import { Shard } from '../store/shard.js';
import type { ShardState, StateChange, StoreCounters } from '../store/shard-health.js';
import { nowWithPauses } from '../store/timing.js';
import { createQuotaScript, type QuotaCall } from './quota-script.js';

/** What the script replies if the call is no older than one that has been executed. */
export interface QuotaReply {
  /** Seconds until what was needed may be there; 0 if it was granted. */
  readonly waitSeconds: number;
  /** Seconds for which no process may send. */
  readonly blockedSeconds: number;
  readonly epoch: string;
  /** The amounts granted, in the order of the call's units. */
  readonly granted: readonly number[];
}

export interface QuotaStoreOptions {
  readonly client: unknown;
  readonly name: string;
  readonly prefix: string;
  readonly deadlineSeconds: number;
  /** Longer than any lease, and than the pause between two heartbeats. */
  readonly graceSeconds: number;
  readonly onChange: (change: StateChange) => void;
}

export class QuotaStore {
  readonly counters: StoreCounters = { calls: 0, beats: 0, failures: 0, downs: 0, inFlight: 0 };
  /** This process's random number. */
  readonly nodeId = String(Math.floor(Math.random() * 2 ** 53));
  readonly #client: StoreClient;
  readonly #deadlines: Deadlines;
  readonly #shard: Shard;
  readonly #key: string;

  constructor(options: QuotaStoreOptions) {
    const { name, prefix, deadlineSeconds, graceSeconds } = options;
    this.#client = createStoreClient(options.client);
    this.#deadlines = new Deadlines(deadlineSeconds);
    // All keys of a quota are on one server of a cluster.
    const key = `${prefix}:quota:{${name}}`;
    this.#key = `${key}:state`;
    this.#shard = new Shard(
      {
        client: this.#client,
        // What the heartbeat needs of a limit. What is sent without the store is reported, so no bucket loses anything.
        limit: {
          rateLimit: 1,
          burstLimit: 1,
          disconnectThreshold: null,
          leaseSeconds: graceSeconds,
          shortLeaseSeconds: graceSeconds,
        },
        nodeId: this.nodeId,
        owner: 'SharedPolicyLimiter',
        bornAt: nowWithPauses(),
        deadlines: this.#deadlines,
        deadlineSeconds,
        createScript: (_, runId) => createQuotaScript(runId),
        givenWhileDown: () => 0,
        onChange: options.onChange,
        counters: this.counters,
      },
      0,
      key,
    );
  }

  get state(): ShardState {
    return this.#shard.state;
  }

  get nodes(): number {
    return this.#shard.nodes;
  }

  get maxNodes(): number {
    return this.#shard.maxNodes;
  }

  /** Calls the script. One of the functions is called, within the deadline or at once. */
  call(
    call: QuotaCall,
    answered: (reply: QuotaReply | undefined) => void,
    failed: (error: Error) => void,
  ): void {
    const args = [this.nodeId, JSON.stringify(call)];
    const receive = (reply: unknown) => answered(readReply(reply, call.units.length));
    this.#shard.call(new CallbackCall('quota', [this.#key], args, receive, failed));
  }

  ready(): Promise<void> {
    return this.#shard.ready();
  }

  async close(): Promise<void> {
    await this.#shard.close();
    this.#deadlines.close();
    this.#client.release();
  }
}

/** Reads a reply; undefined if the script has changed nothing, or if the reply is not one of this script. */
function readReply(reply: unknown, units: number): QuotaReply | undefined {
  if (!Array.isArray(reply) || reply.length !== 4 + units || String(reply[0]) !== 'ok') {
    return undefined;
  }
  const [, wait, blocked, epoch, ...granted] = reply;
  if (![wait, blocked, ...granted].every(isNumeric)) return undefined;
  return {
    waitSeconds: Number(wait),
    blockedSeconds: Number(blocked),
    epoch: String(epoch),
    granted: granted.map(Number),
  };
}
