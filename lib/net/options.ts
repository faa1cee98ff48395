// The options of a guard of a line protocol, and its verdicts.

import type { Socket } from 'node:net';
import type { GuardOptions, GuardSettings } from '../guard/settings.js';
import type { ConnectionReason, GuardVerdict, MessageReason } from '../guard/verdicts.js';
import type { Classification, Keys } from '../rules/types.js';

/** A line without its line end: text, or bytes with `encoding: 'buffer'`. */
export type Line = string | Buffer;

/** Returns the cost of a line. */
export type LineCost = (line: Line) => number;

/** The arguments of a rule's `key` function. */
export type LineKeyOf = [socket: Socket];

/** A decision on a connection or on a line. */
export type LineVerdict = GuardVerdict<'message', Socket, Line>;

/** Why a connection is closed or refused. The option `farewell` makes the last text for the peer from it. */
export interface Farewell {
  readonly reason: ConnectionReason | MessageReason;
  /** The argument `words` of `expel`. */
  readonly words: string | undefined;
}

/** The connection in which an error occurred. */
export interface LineErrorSource {
  readonly socket: Socket;
}

/** The options of `guardLineServer`. */
export interface LineGuardOptions
  extends GuardOptions<LineCost, LineKeyOf, LineVerdict, LineErrorSource> {
  /**
   * Returns the keys of a connection in more scopes of `limiter` than `connection` and `address`, or undefined. Called
   * once for each connection; on a TLS server after the handshake, so that it can read a certificate, and the check of
   * the action `connect` names only the address. If it throws or returns anything else, the connection is closed.
   */
  keys?: ((socket: Socket) => Keys | undefined) | undefined;
  /**
   * Says what a line is to `limiter`: its action, cost, keys and plan; undefined for an ordinary line. Called once for each
   * line, before any limit. Its `value` is the second argument of 'line' listeners. If it throws or returns anything
   * else, the connection is closed, and nothing is charged.
   */
  classify?: ((line: Line, socket: Socket) => Classification | undefined) | undefined;
  /**
   * The length of the longest line in bytes, without its line end, from 1 to 2^30. A longer line closes the connection,
   * and so does a line that is longer than the burst of a rule with the cost `'bytes'`. Default 65,536.
   */
  maxLineBytes?: number | undefined;
  /**
   * Seconds from the first byte of a line to its end, greater than 0. A connection whose line takes longer is
   * closed, but not while you have paused its socket. Default: no deadline.
   */
  lineSeconds?: number | undefined;
  /** The type of the lines: text in one of two encodings, or bytes. Default `'utf8'`. */
  encoding?: 'utf8' | 'latin1' | 'buffer' | undefined;
  /**
   * The last text that a peer gets when its connection is closed or refused, including the line end; or a function that
   * returns it. Default: no text, and a refused connection is destroyed at once. A TLS server always destroys a refused
   * connection at once, since there is no encrypted stream yet. `onError` receives what the function throws.
   */
  farewell?: string | ((farewell: Farewell) => string | undefined) | undefined;
}

/** Validated options. @internal */
export interface LineGuardSettings
  extends GuardSettings<LineCost, LineKeyOf, LineVerdict, LineErrorSource> {
  readonly maxLineBytes: number;
  /** Undefined: no deadline. */
  readonly lineMilliseconds: number | undefined;
  readonly encoding: 'utf8' | 'latin1' | 'buffer';
  readonly farewell: (farewell: Farewell) => string | undefined;
}
