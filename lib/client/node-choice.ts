// Which node of a pool a request goes to, and when: the node whose answer is expected first.

import { type Cost, times } from './cost.js';
import type { UpstreamNode } from './upstream-node.js';

/** A probe is given up after this many times the latency of the slowest sound node, and that many seconds at least. */
const PROBE_LATENCIES = 10;
const LEAST_PROBE_SECONDS = 3;

/** What decides about the node of a request. */
export interface ChoiceRequest {
  readonly cost: Cost;
  /** Nodes to avoid if others are ready soon. */
  readonly exclude: readonly string[];
  /** The deadline by the pool's clock. */
  readonly deadlineAt: number;
}

/** What a request can expect of a node. */
interface Candidate {
  readonly node: UpstreamNode;
  /** Seconds until the request can be sent. */
  readonly wait: number;
  /** Expected seconds from sending the request to its answer. */
  readonly expected: number;
  /** Whether it makes sense to wait for the node. */
  readonly isPromising: boolean;
}

export interface Choice {
  /** Seconds until the request should be sent or the choice be made again; 0 means now. */
  readonly delay: number;
  /** The nodes that are equally good to send it to. */
  readonly nodes: readonly UpstreamNode[];
}

/** An excluded node is used only if no other is ready within this time. */
const EXCLUDE_SECONDS = 1;

/**
 * Waiting for a node that is not ready makes sense only if that node will have answered before a ready one does.
 * While several requests wait, it must be able to answer all of them in half that time, because a ready node that is
 * left idle answers none. `waiting`: their number.
 */
export function chooseNodes(
  nodes: readonly UpstreamNode[],
  request: ChoiceRequest,
  waiting: number,
  now: number,
): Choice {
  const candidates = candidatesFor(nodes, request, now);
  const ready = candidates.filter(({ wait }) => wait === 0);
  const best = Math.min(...ready.map(({ expected }) => expected));
  const bestNodes = ready.filter(({ expected }) => expected <= withTolerance(best));
  const others = candidates.filter(({ wait }) => wait > 0);
  const waitingCost = times(request.cost, Math.max(1, waiting));
  const answeredAfter = others
    .filter(({ isPromising }) => isPromising)
    .map(({ node, wait, expected }) => Math.max(wait, node.backlogSeconds(waitingCost)) + expected);
  const factor = waiting > 1 ? 2 : 1;
  const isSentNow = ready.length > 0 && factor * withTolerance(Math.min(...answeredAfter)) >= best;
  return {
    delay: isSentNow ? 0 : Math.min(...others.map(({ wait }) => wait)),
    nodes: bestNodes.map(({ node }) => node),
  };
}

/**
 * Returns the candidates. Excluded nodes are among them only if no other is promising and ready soon, and nodes that
 * have not answered their probe yet only if no node is known to answer.
 */
function candidatesFor(
  nodes: readonly UpstreamNode[],
  { cost, exclude, deadlineAt }: ChoiceRequest,
  now: number,
): Candidate[] {
  const usual = usualRejections(nodes);
  const candidates = nodes.map((node) => {
    const wait = node.waitSeconds(cost, now);
    const isPromising = wait < Infinity && now + wait <= deadlineAt && !node.isBroken(now);
    const expected = node.expectedSeconds(now, usual(node));
    return { node, wait, expected, isPromising };
  });
  const isKnown = candidates.some(({ node, isPromising }) => isPromising && node.isSound(now));
  const answering = isKnown
    ? candidates.filter(({ node }) => node.isSound(now) || node.inFlight(now) === 0)
    : candidates;
  const others = answering.filter(({ node }) => !exclude.includes(node.name));
  const suffice = others.some(({ isPromising, wait }) => isPromising && wait <= EXCLUDE_SECONDS);
  return suffice ? others : answering;
}

/**
 * Returns a function that returns the smallest share of requests that another node rejects: what every node rejects is no
 * node's fault.
 */
function usualRejections(nodes: readonly UpstreamNode[]): (node: UpstreamNode) => number {
  let [smallest, next] = [1, 1];
  for (const { rejectedShare = 1 } of nodes) {
    next = Math.min(next, Math.max(smallest, rejectedShare));
    smallest = Math.min(smallest, rejectedShare);
  }
  return ({ rejectedShare }) => (rejectedShare === smallest ? next : smallest);
}

/** Returns the time up to which an expected time is as good as `seconds`, given how rough the averages are. */
function withTolerance(seconds: number): number {
  return seconds * 1.1 + 0.001;
}

/**
 * Picks two nodes at random and returns the one with fewer requests under way. The random choice keeps one node from
 * attracting all requests.
 */
export function pickNode(
  nodes: readonly UpstreamNode[],
  random: () => number,
  now: number,
): UpstreamNode {
  const first = Math.floor(random() * nodes.length);
  const step = 1 + Math.floor(random() * (nodes.length - 1));
  const a = nodes[first] as UpstreamNode;
  const b = nodes[(first + step) % nodes.length] as UpstreamNode;
  return b.inFlight(now) < a.inFlight(now) ? b : a;
}

/**
 * Returns the seconds after which a request to `node` that is not answered should go to another node; Infinity if the
 * node is known to answer, or no other one is.
 */
export function probeSeconds(
  nodes: readonly UpstreamNode[],
  node: UpstreamNode,
  now: number,
): number {
  const others = nodes.filter((other) => other !== node && other.isSound(now));
  if (node.isSound(now) || others.length === 0) return Infinity;
  const slowest = Math.max(...others.map((other) => other.latencySeconds));
  return Math.max(LEAST_PROBE_SECONDS, PROBE_LATENCIES * slowest);
}
