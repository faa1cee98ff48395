// The loopback addresses of the demo's peers. Peers have different addresses, so that limits by address have an effect.

import { once } from 'node:events';
import { createServer } from 'node:net';

export const SHARED_ADDRESS = '127.0.0.1';

export function honestAddress(index: number): string {
  return `127.0.1.${index + 1}`;
}

/** An attacker has many addresses: if one is banned, it uses the next. */
export function attackerAddress(index: number, turn: number): string {
  return `127.0.${2 + index}.${(turn % 250) + 1}`;
}

/** Returns true if the system has all of 127.0.0.0/8: Linux does, macOS by default has only 127.0.0.1. */
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
