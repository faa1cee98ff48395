// The entry relay-limiter/client: names only.

export type { Lease } from './lease.js';
export type { AcquireOptions, PolicyLimiterOptions } from './options.js';
export type { Policy } from './policies.js';
export { PolicyLimiter, type PolicyLimiterState, type UpdateContext } from './policy-limiter.js';
export type { DeadlineError } from './queue.js';
export type { PolicySnapshot } from './snapshot.js';
export type { Algorithm } from './windows/index.js';
