// Passes the events of a server's connections through its guards before its listeners get them. The guards come in a
// fixed order, whichever was created first.

import type { EventEmitter } from 'node:events';
import { override } from './override.js';

/** The guard of connections comes first, since it may learn the address of the client. */
const STAGES = ['connections', 'messages'] as const;

/** Before the handshake of TLS, after it, and if it fails. All other events go to the listeners at once. */
const EVENTS: readonly unknown[] = ['connection', 'secureConnection', 'tlsClientError'];

/**
 * Gets the name and the arguments of an event. `emit` passes the event on, now or later. The result is that of the
 * server's `emit`.
 */
export type Interceptor = (event: readonly unknown[], emit: () => boolean) => boolean;

interface Chain {
  /** In the order of `STAGES`. Never changed, only replaced. */
  links: readonly Link[];
  readonly restore: () => void;
}

interface Link {
  readonly stage: number;
  readonly interceptor: Interceptor;
}

const CHAINS = new WeakMap<EventEmitter, Chain>();

/** Returns a function that removes the interceptor from the server. */
export function intercept(
  server: EventEmitter,
  stage: (typeof STAGES)[number],
  interceptor: Interceptor,
): () => void {
  const chain = CHAINS.get(server) ?? hook(server);
  CHAINS.set(server, chain);
  const link = { stage: STAGES.indexOf(stage), interceptor };
  chain.links = [...chain.links, link].sort((a, b) => a.stage - b.stage);
  return () => {
    chain.links = chain.links.filter((other) => other !== link);
    if (chain.links.length > 0 || CHAINS.get(server) !== chain) return;
    CHAINS.delete(server);
    chain.restore();
  };
}

function hook(server: EventEmitter): Chain {
  const emit = server.emit as (...event: unknown[]) => boolean;
  const pass = (event: unknown[], links: readonly Link[], n: number): boolean => {
    const link = links[n];
    if (link === undefined) return emit.apply(server, event);
    return link.interceptor(event, () => pass(event, links, n + 1));
  };
  const guardedEmit = (...event: unknown[]) =>
    EVENTS.includes(event[0]) ? pass(event, chain.links, 0) : emit.apply(server, event);
  const chain: Chain = { links: [], restore: override(server, 'emit', guardedEmit) };
  return chain;
}
