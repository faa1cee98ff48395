// The options of createDashboard: what is accepted, and the defaults.

import { limiterError, refused, refusedNumber } from '../common/errors.js';
import { positive, readOptions } from '../common/options.js';
import { type NamedLimiters, namedLimiters, type ObservableLimiter } from '../limiters/stats.js';

export interface DashboardOptions {
  /** The limiters to watch, by the names that the page gives them; one at least. */
  limiters: NamedLimiters;
  /**
   * Without one the dashboard answers this machine alone. With one whoever looks must have it: at
   * least 16 characters, of those that a Bearer token may have (letters, digits and `-._~+/=`).
   */
  token?: string | undefined;
  /** Heads the page. Default `relay-limiter`. */
  title?: string | undefined;
  /** Whether the page may lift bans, by `removePeer`. Default true. */
  allowLift?: boolean | undefined;
  /** Whether the page may ban peers by hand, by `ban`. Default: as `allowLift`. */
  allowBan?: boolean | undefined;
  /** Seconds between two samples: greater than 0, at most 3600. Default 1. */
  intervalSeconds?: number | undefined;
  /**
   * The path under which a server of node:http hands requests here, such as `/limits`. Default: the
   * root. Not needed where a framework takes its own prefix off `request.url`, as Express does.
   */
  path?: string | undefined;
}

export interface Settings {
  readonly limiters: readonly (readonly [name: string, limiter: ObservableLimiter])[];
  readonly token: string | undefined;
  readonly title: string;
  readonly allowLift: boolean;
  readonly allowBan: boolean;
  readonly intervalSeconds: number;
  /** Without a slash at its end. */
  readonly path: string;
}

const OPTIONS = ['limiters', 'token', 'title', 'allowLift', 'allowBan', 'intervalSeconds', 'path'];

export function readSettings(options: DashboardOptions): Settings {
  const given = readOptions('createDashboard', options, OPTIONS);
  const { token, title = 'relay-limiter', allowLift = true, path = '/' } = given;
  const { allowBan = allowLift } = given;
  const intervalSeconds = positive(given, 'intervalSeconds', 1);
  // Its message does not show what was given.
  if (token !== undefined && !(typeof token === 'string' && /^[\w.~+/=-]{16,}$/.test(token))) {
    const message = 'token must be at least 16 letters, digits and -._~+/=';
    throw limiterError(TypeError, 'ERR_LIMITER_OPTION', message);
  }
  if (typeof title !== 'string') throw refused('ERR_LIMITER_OPTION', 'title', title, 'a string');
  if (typeof allowLift !== 'boolean') {
    throw refused('ERR_LIMITER_OPTION', 'allowLift', allowLift, 'true or false');
  }
  if (typeof allowBan !== 'boolean') {
    throw refused('ERR_LIMITER_OPTION', 'allowBan', allowBan, 'true or false');
  }
  if (intervalSeconds > 3600) {
    const accepted = 'at most 3600';
    throw refusedNumber('ERR_LIMITER_OPTION', 'intervalSeconds', intervalSeconds, accepted);
  }
  if (typeof path !== 'string' || !/^\/[^?#]*$/.test(path)) {
    throw refused('ERR_LIMITER_OPTION', 'path', path, 'a path that begins with /');
  }
  const limiters = namedLimiters(given['limiters']);
  const folder = path.replace(/\/+$/, '');
  return { limiters, token, title, allowLift, allowBan, intervalSeconds, path: folder };
}
