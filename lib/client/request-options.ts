// What fetch and undici users say of their requests: both in the same words.

import { callback } from '../common/options.js';
import { readDeadline } from './options.js';

/** What `cost` and `priority` are told of a request. */
export interface LimitedRequest {
  /** As it was given: relative, perhaps. */
  readonly url: string;
  /** In upper case. */
  readonly method: string;
}

export interface RequestOptions {
  /** Units that a request costs; see `acquire`. Default: 1. */
  cost?: ((request: LimitedRequest) => number) | undefined;
  /** The higher goes first. Default: 0. */
  priority?: ((request: LimitedRequest) => number) | undefined;
  /** Seconds after which it is too late. Default: never. */
  deadlineSeconds?: number | undefined;
}

export const REQUEST_OPTIONS = ['cost', 'priority', 'deadlineSeconds'];

/** @throws `ERR_LIMITER_OPTION` */
export function readRequestOptions(given: Readonly<Record<string, unknown>>) {
  return {
    cost: callback<(request: LimitedRequest) => number>(given, 'cost') ?? (() => 1),
    priority: callback<(request: LimitedRequest) => number>(given, 'priority') ?? (() => 0),
    deadlineSeconds: readDeadline(given),
  };
}
