// The three nodes: the limits that they enforce, the headers that they send, and the limits in the client's node file. The
// quotas fit a machine that can send far more; on a slower one they are scaled down.

import type { NodeFile } from 'relay-limiter/client';

export interface NodeSpec {
  readonly name: string;
  /** The draft of the header fields on every response; undefined: the node sends only 429 and Retry-After. */
  readonly draft: 11 | 7 | undefined;
  /** Fixed windows; clients do not know when they begin. */
  readonly policies: readonly { name: string; quota: number; windowSeconds: number }[];
  /** The time of an answer. */
  readonly latencySeconds: number;
  /** The limits in the node file. They are too high if the node sends its real limits in headers. */
  readonly configured: NodeFile[string]['policies'];
}

const NODES: readonly NodeSpec[] = [
  {
    name: 'ann',
    draft: 11,
    policies: [
      { name: 'short', quota: 500, windowSeconds: 4 },
      { name: 'long', quota: 900, windowSeconds: 8 },
    ],
    latencySeconds: 0.01,
    configured: [{ w: 4, v: 1000 }],
  },
  {
    name: 'bob',
    draft: 7,
    policies: [{ name: 'only', quota: 700, windowSeconds: 5 }],
    latencySeconds: 0.02,
    configured: [{ w: 5, v: 1400 }],
  },
  {
    name: 'cid',
    draft: undefined,
    policies: [{ name: 'only', quota: 600, windowSeconds: 4 }],
    latencySeconds: 0.03,
    configured: [{ w: 4, v: 600 }],
  },
];

/** The requests per second that all nodes together allow at scale 1. */
export const TOTAL_RATE = NODES.flatMap(({ policies }) => policies.slice(-1)).reduce(
  (sum, { quota, windowSeconds }) => sum + quota / windowSeconds,
  0,
);

/** Returns the nodes with their quotas multiplied by `scale`, which is more than 0 and at most 1. */
export function nodesAt(scale: number): readonly NodeSpec[] {
  const scaled = (quota: number) => Math.max(1, Math.round(quota * scale));
  return NODES.map((node) => ({
    ...node,
    policies: node.policies.map((policy) => ({ ...policy, quota: scaled(policy.quota) })),
    configured: node.configured.map((policy) => ({ ...policy, v: scaled(policy.v) })),
  }));
}

/** Names the way in which a node announces its limits. */
export function announcement({ draft }: NodeSpec): string {
  return draft === undefined ? '429 only' : `draft ${String(draft).padStart(2, '0')}`;
}
