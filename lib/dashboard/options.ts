// Reads and validates the options of createDashboard.

import { invalidNumber, invalidValue, limiterError } from '../common/errors.js';
import { positive, readOptions } from '../common/options.js';
import { type NamedGuards, namedGuards, type ObservableGuard } from '../guard/guard-stats.js';
import { type NamedLimiters, namedLimiters } from '../rules/observable.js';
import { type Shown, shownOf } from './shown.js';
import { type Fleets, type NamedFleets, namedFleets } from './watched-fleets.js';

/** The options of `createDashboard`. */
export interface DashboardOptions {
  /**
   * The limiters to show, by the names that the page shows. At least one, unless there is `shared`. Of a RuleLimiter the page shows the whole, each
   * scope that is not single, as `name / scope`, and a table of its rules.
   */
  limiters?: NamedLimiters | undefined;
  /**
   * Shared limits and bans of relay-limiter/redis, by the names that the page shows. The page shows what all their processes
   * have done, and asks the store of each limit at most once in five seconds while a page is open. Default: none.
   */
  shared?: NamedFleets | undefined;
  /**
   * Guards of relay-limiter/ws and relay-limiter/net, by the names that the page shows. The page has a table of their
   * connections and of what they refused, by reason. Default: none.
   */
  guards?: NamedGuards | undefined;
  /**
   * The token that clients must have: at least 16 characters that a Bearer token may contain (letters, digits and
   * `-._~+/=`). Default: no token; then only this machine can open the dashboard.
   */
  token?: string | undefined;
  /** The title of the page. Default `relay-limiter`. */
  title?: string | undefined;
  /** Whether the page may lift bans, by `removePeer`, or by `unban` of a RuleLimiter. Default true. */
  allowLift?: boolean | undefined;
  /** Whether the page may ban peers by hand, by `ban`. Default: the value of `allowLift`. */
  allowBan?: boolean | undefined;
  /** Seconds between two samples: greater than 0, at most 3600. Default 1. */
  intervalSeconds?: number | undefined;
  /**
   * The path of the dashboard on a node:http server, such as `/limits`. Default: the root. Not needed if a framework
   * removes its prefix from `request.url`, as Express does.
   */
  path?: string | undefined;
}

/** @internal */
export interface DashboardSettings {
  readonly shown: readonly Shown[];
  readonly guards: readonly (readonly [name: string, guard: ObservableGuard])[];
  readonly fleets: Fleets;
  readonly token: string | undefined;
  readonly title: string;
  readonly allowLift: boolean;
  readonly allowBan: boolean;
  readonly intervalSeconds: number;
  /** Without a trailing slash. */
  readonly path: string;
}

const OPTIONS = [
  'limiters',
  'shared',
  'guards',
  'token',
  'title',
  'allowLift',
  'allowBan',
  'intervalSeconds',
  'path',
];

/** @internal */
export function readSettings(options: DashboardOptions): DashboardSettings {
  const given = readOptions('createDashboard', options, OPTIONS);
  const { token, title = 'relay-limiter', allowLift = true, path = '/' } = given;
  const { allowBan = allowLift } = given;
  const intervalSeconds = positive(given, 'intervalSeconds', 1);
  // The message does not contain the given value, which may be a secret.
  if (token !== undefined && !(typeof token === 'string' && /^[\w.~+/=-]{16,}$/.test(token))) {
    const message = 'token must be at least 16 letters, digits and -._~+/=, got another value';
    throw limiterError(TypeError, 'ERR_LIMITER_OPTION', message);
  }
  if (typeof title !== 'string')
    throw invalidValue('ERR_LIMITER_OPTION', 'title', title, 'a string');
  if (typeof allowLift !== 'boolean') {
    throw invalidValue('ERR_LIMITER_OPTION', 'allowLift', allowLift, 'true or false');
  }
  if (typeof allowBan !== 'boolean') {
    throw invalidValue('ERR_LIMITER_OPTION', 'allowBan', allowBan, 'true or false');
  }
  if (intervalSeconds > 3600) {
    const accepted = 'at most 3600';
    throw invalidNumber('ERR_LIMITER_OPTION', 'intervalSeconds', intervalSeconds, accepted);
  }
  if (typeof path !== 'string' || !/^\/[^?#]*$/.test(path)) {
    throw invalidValue('ERR_LIMITER_OPTION', 'path', path, 'a path that begins with /');
  }
  const fleets = namedFleets(given['shared']);
  const hasFleets = fleets.limits.length + fleets.bans.length > 0;
  const { limiters } = given;
  const shown = limiters === undefined && hasFleets ? [] : shownOf(namedLimiters(limiters));
  const folder = path.replace(/\/+$/, '');
  const guards = namedGuards(given['guards']);
  return {
    shown,
    guards,
    fleets,
    token,
    title,
    allowLift,
    allowBan,
    intervalSeconds,
    path: folder,
  };
}
