// The scopes of a RuleLimiter for which guards and HTTP limits provide the keys: `connection` and `address`. All of them
// use this file, so that a connection and an address have the same keys wherever a limiter checks them.

import { limiterError, show } from '../common/errors.js';
import type { LimiterContext } from '../rules/limiter-context.js';
import type { Keys } from '../rules/types.js';

export const CONNECTION = 'connection';
export const ADDRESS = 'address';

type Kind = 'text' | 'address' | 'derived' | 'single';

/** The part of a RuleLimiter that names its scopes. */
interface Limiter {
  readonly context: LimiterContext;
}

export class ClientScopes {
  readonly hasConnection: boolean;
  /** The kind of the scope `address`: an address as it is, or a text, the result of `addressKey`. */
  readonly addressKind: 'text' | 'address' | undefined;

  /** @throws `ERR_LIMITER_OPTION` for a scope of another kind */
  constructor(limiter: Limiter) {
    this.hasConnection = kindOf(limiter, CONNECTION, ['text']) !== undefined;
    this.addressKind = kindOf(limiter, ADDRESS, ['text', 'address']);
  }
}

function kindOf<Accepted extends Kind>(
  { context }: Limiter,
  scope: string,
  accepted: readonly Accepted[],
): Accepted | undefined {
  const kind = context.scopes.find(({ name }) => name === scope)?.kind;
  if (kind === undefined || (accepted as readonly Kind[]).includes(kind)) return kind as Accepted;
  const message = `the scope ${show(scope)} of the limiter must be of kind ${accepted.join(' or ')}, got ${kind}`;
  throw limiterError(TypeError, 'ERR_LIMITER_OPTION', message);
}

/** Whether the options `ipv4Subnet` and `ipv6Subnet` have an effect: an address scope has its own. */
export function usesSubnets({ context }: Limiter): boolean {
  return context.scopes.some(({ name, kind }) => name === ADDRESS && kind === 'text');
}

/** `owner`: "the guard". @throws `ERR_LIMITER_KEY` for keys of a user that name these scopes */
export function requireOtherScopes(keys: Keys, what: string, owner: string): void {
  for (const scope of [CONNECTION, ADDRESS]) {
    if (keys[scope] === undefined) continue;
    const message = `${what} must not have the scope ${show(scope)}, whose key ${owner} gives`;
    throw limiterError(TypeError, 'ERR_LIMITER_KEY', message);
  }
}
