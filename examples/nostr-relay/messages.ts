// The messages between the primary process of the relay and its workers.

import type { ClientAddressOptions } from 'relay-limiter/address';
import type { LimitsFile, RelayLimitsOptions } from './limits.js';
import type { NostrEvent } from './protocol.js';

export interface WorkerConfig extends RelayLimitsOptions {
  readonly port: number;
  readonly log?: string | undefined;
  readonly trustedProxies?: (string & ClientAddressOptions['trustedProxies']) | undefined;
}

export type FromWorker =
  | { readonly kind: 'ready' }
  | { readonly kind: 'listening'; readonly port: number }
  | { readonly kind: 'event'; readonly event: NostrEvent }
  | { readonly kind: 'refusals'; readonly counts: [kind: string, count: number][] }
  /** The worker has received SIGHUP. */
  | { readonly kind: 'reload' }
  | { readonly kind: 'failed'; readonly why: string };

/** The reply to `ready`. */
export interface Start {
  readonly kind: 'start';
  /** With these the table was created, so a limiter can always join with them. */
  readonly founding: LimitsFile;
  readonly limits: LimitsFile;
  readonly stored: readonly NostrEvent[];
}

export type ToWorker =
  | Start
  | { readonly kind: 'event'; readonly event: NostrEvent }
  /** The primary has put other limits in force. */
  | { readonly kind: 'limits'; readonly limits: LimitsFile };
