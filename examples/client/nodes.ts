// The three nodes: what they enforce, what they say of it, and what the client was told beforehand.

import type { NodeFile } from 'relay-limiter/client';

export interface NodeSpec {
  readonly name: string;
  /** The draft whose fields are on every response; undefined: there is only 429 and Retry-After. */
  readonly draft: 11 | 7 | undefined;
  /** Fixed windows, of a phase that nobody is told. */
  readonly policies: readonly { name: string; quota: number; windowSeconds: number }[];
  /** How long an answer takes. */
  readonly latencySeconds: number;
  /** What the node file says: too much, where the node says more precisely what it allows. */
  readonly told: NodeFile[string]['policies'];
}

export const NODES: readonly NodeSpec[] = [
  {
    name: 'ann',
    draft: 11,
    policies: [
      { name: 'short', quota: 500, windowSeconds: 4 },
      { name: 'long', quota: 900, windowSeconds: 8 },
    ],
    latencySeconds: 0.01,
    told: [{ w: 4, v: 1000 }],
  },
  {
    name: 'bob',
    draft: 7,
    policies: [{ name: 'only', quota: 700, windowSeconds: 5 }],
    latencySeconds: 0.02,
    told: [{ w: 5, v: 1400 }],
  },
  {
    name: 'cid',
    draft: undefined,
    policies: [{ name: 'only', quota: 600, windowSeconds: 4 }],
    latencySeconds: 0.03,
    told: [{ w: 4, v: 600 }],
  },
];

/** How a node speaks of its limits, in a word or two. */
export function speech({ draft }: NodeSpec): string {
  return draft === undefined ? '429 only' : `draft ${String(draft).padStart(2, '0')}`;
}
