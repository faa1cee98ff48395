// The loopback addresses the demo's peers connect from, so that limits by address mean something.

import { once } from 'node:events';
import { createServer } from 'node:net';

export const SHARED_ADDRESS = '127.0.0.1';

export function honestAddress(index: number): string {
  return `127.0.1.${index + 1}`;
}

/** Attackers have many: when one is banned they come from the next. */
export function attackerAddress(index: number, turn: number): string {
  return `127.0.${2 + index}.${(turn % 250) + 1}`;
}

/** Linux has all of 127.0.0.0/8; macOS, as it comes, only 127.0.0.1. */
export async function hasManyAddresses(): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(0, honestAddress(0));
    await once(server, 'listening');
    return true;
  } catch {
    return false;
  } finally {
    server.close();
  }
}
