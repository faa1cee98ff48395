// The limit of a SharedRateLimiter as the content of a version (../store/version.ts): JSON, so equal limits are equal texts.

import type { Limit } from '../store/limit.js';
import { storeError } from '../store/replies.js';

/** The part of a limit that can be changed while nodes run. */
export type ChangeableLimit = Pick<Limit, 'rateLimit' | 'burstLimit' | 'disconnectThreshold'>;

/** What a change sets; undefined stays as it is. */
export type LimitChange = {
  readonly [Name in keyof ChangeableLimit]?: ChangeableLimit[Name] | undefined;
};

export function contentOfLimit(limit: ChangeableLimit): string {
  const { rateLimit, burstLimit, disconnectThreshold } = limit;
  return JSON.stringify({ rateLimit, burstLimit, disconnectThreshold });
}

/** @throws `ERR_LIMITER_STORE` if it is no limit. */
export function limitOfContent(content: string): ChangeableLimit {
  const { rateLimit, burstLimit, disconnectThreshold } = parse(content);
  const numbers = [rateLimit, burstLimit, disconnectThreshold ?? 0];
  const isValid =
    numbers.every(Number.isFinite) && Number(rateLimit) > 0 && Number(burstLimit) >= 1;
  if (!isValid) throw storeError('the limit in the store cannot be used');
  return { rateLimit, burstLimit, disconnectThreshold } as ChangeableLimit;
}

function parse(content: string): Partial<Record<keyof ChangeableLimit, unknown>> {
  try {
    return Object(JSON.parse(content));
  } catch {
    return {};
  }
}
