// The upstreams of limitFetch: a limiter, a group of limiters, a pool of nodes, or two of these around one another. They
// have one interface (fetch-call.ts).

import { invalidValue, show } from '../common/errors.js';
import { isInstance, isPlain, isRecord } from '../common/kinds.js';
import type { Costs } from './cost.js';
import type { Grant, Upstream, UpstreamNodes } from './fetch-call.js';
import type { Lease } from './lease.js';
import type { AcquireOptions, LimitedRequest, OuterLimiter } from './options.js';
import { PolicyLimiter } from './policy-limiter.js';
import { PolicyLimiterGroup } from './policy-limiter-group.js';
import { UpstreamPool } from './upstream-pool.js';

/** What an upstream is made of, besides the limiter. */
export interface UpstreamSettings {
  readonly key: (request: LimitedRequest) => string;
  readonly cost: (request: LimitedRequest) => number | Costs;
  readonly protocol: string;
}

/** @throws ERR_LIMITER_OPTION for an invalid limiter, and for a node of a pool that is not a host or an origin */
export function upstreamOf(limiter: unknown, { key, cost, protocol }: UpstreamSettings): Upstream {
  if (isInstance(limiter, UpstreamPool)) {
    return {
      acquire: ({ within: _, ...options }) => limiter.acquire(options),
      update: (info, status, { within: _, ...context }) => limiter.update(info, status, context),
      fail: (lease) => limiter.fail(lease),
      nodes: nodesOf(limiter, protocol),
    };
  }
  const fail = (lease: Lease) => lease.release();
  if (isRecord(limiter) && isPlain(limiter) && ('policies' in limiter || 'common' in limiter)) {
    return upstreamOf(new PolicyLimiterGroup(limiter), { key, cost, protocol });
  }
  if (isInstance(limiter, PolicyLimiterGroup)) {
    return {
      acquire: async (options, request) => {
        return { lease: await limiter.acquire({ ...options, key: key(request) }) };
      },
      update: (info, status, context) => limiter.update(info, status, context),
      fail,
    };
  }
  if (isInstance(limiter, PolicyLimiter)) {
    return {
      acquire: (options) => {
        const { cost, within, signal } = options;
        // Most requests need not wait. Then they need no promise either.
        const lease = signal?.aborted ? null : limiter.tryLease(cost, within && { within });
        if (lease !== null) return { lease };
        return limiter.acquire(options).then((acquired) => ({ lease: acquired }));
      },
      update: (info, status, context) => limiter.update(info, status, context),
      fail,
    };
  }
  const accepted = 'a PolicyLimiter, a PolicyLimiterGroup or its options, or an UpstreamPool';
  throw invalidValue('ERR_LIMITER_OPTION', 'limiter', limiter, accepted);
}

/**
 * Joins the upstreams of two fetches of which one calls the other, so that each attempt takes the quota of both at the
 * same moment: a request that waits for one of them does not use up what the other allows. Returns undefined for two
 * pools, which cannot both choose the node.
 */
export function joinUpstreams(
  outer: Upstream,
  inner: Upstream,
  costs: { outer: UpstreamSettings['cost']; inner: UpstreamSettings['cost'] },
): Upstream | undefined {
  if (outer.nodes !== undefined && inner.nodes !== undefined) return undefined;
  // The second is that within which the first acquires; a pool has to be it.
  const isSwapped = outer.nodes !== undefined;
  const [first, second] = isSwapped ? [inner, outer] : [outer, inner];
  const [firstCost, secondCost] = isSwapped
    ? [costs.inner, costs.outer]
    : [costs.outer, costs.inner];
  const secondLeases = new WeakMap<Lease, Lease>();
  return {
    async acquire(options, request) {
      // The last grant is the one that the lease was taken with; earlier ones were given back.
      const grants: Grant[] = [];
      const { exclude, ...others } = options;
      const excluded = exclude === undefined ? {} : { exclude };
      const within = new JoinedLimiter(async (given) => {
        const grant = await second.acquire(
          { ...given, cost: secondCost(request), ...excluded },
          request,
        );
        grants[0] = grant;
        return grant.lease;
      });
      const { lease } = await first.acquire(
        { ...others, cost: firstCost(request), within },
        request,
      );
      const [grant] = grants as [Grant];
      secondLeases.set(lease, grant.lease);
      return { ...grant, lease };
    },
    update(info, status, context) {
      first.update(info, status, context);
      second.update(info, status, { ...context, lease: secondLeases.get(context.lease) as Lease });
    },
    fail(lease) {
      second.fail(secondLeases.get(lease) as Lease);
      first.fail(lease);
    },
    ...(second.nodes === undefined ? {} : { nodes: ofSecond(second.nodes) }),
  };

  function ofSecond(nodes: UpstreamNodes): UpstreamNodes {
    return {
      ...nodes,
      probeSeconds: (lease) => nodes.probeSeconds(secondLeases.get(lease) as Lease),
    };
  }
}

/** An upstream as the limiter within which another one acquires. It always waits, since a choice may be needed. */
class JoinedLimiter implements OuterLimiter {
  readonly acquire: (options?: AcquireOptions) => Promise<Lease>;

  constructor(acquire: (options?: AcquireOptions) => Promise<Lease>) {
    this.acquire = acquire;
  }

  tryLease(): null {
    return null;
  }

  delaySeconds(): number {
    return 0;
  }

  remaining(): number {
    return Infinity;
  }

  update(): void {}
}

function nodesOf(pool: UpstreamPool, protocol: string): UpstreamNodes {
  const origins = new Map(pool.nodes.map((node) => [node, originOf(node, protocol)]));
  return {
    count: () => pool.nodes.length,
    target: (node) => {
      // The nodes of a pool may change.
      const origin = origins.get(node) ?? originOf(node, protocol);
      origins.set(node, origin);
      const { path = '', headers = [], timeoutSeconds } = pool.settingsOf(node) ?? {};
      return { base: `${origin}${path}`, headers, timeoutSeconds };
    },
    probeSeconds: (lease) => pool.probeSeconds(lease),
  };
}

function originOf(node: string, protocol: string): string {
  const text = /^https?:\/\//i.test(node) ? node : `${protocol}://${node}`;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || url.href !== `${url.origin}/`) {
    const accepted = "a host such as 'example.org:8080' or an origin such as 'http://localhost'";
    throw invalidValue('ERR_LIMITER_OPTION', `node ${show(node)}`, node, accepted);
  }
  return url.origin;
}
