// What a guard of line protocols takes, and what it tells.

import type { Socket } from 'node:net';
import type { ConnectionReason } from '../guard/door.js';
import type { MessageReason } from '../guard/gate.js';
import type { GuardOptions, Settings } from '../guard/settings.js';
import type { GuardVerdict } from '../guard/verdicts.js';

/** A line without its end: text, or bytes with `encoding: 'buffer'`. */
export type Line = string | Buffer;

/** The cost of a line. */
export type LineCost = (line: Line) => number;

/** What a key of one's own is made of. */
export type LineKeyOf = [socket: Socket];

/** A decision on a connection or a line. */
export type LineVerdict = GuardVerdict<'message', Socket, Line>;

/** Why a peer is sent away, for the words that it is told. */
export interface Farewell {
  readonly reason: ConnectionReason | MessageReason;
  /** What `expel` was given. */
  readonly words: string | undefined;
}

/** Whose an error is. */
export interface LineErrorSource {
  readonly socket: Socket;
}

export interface LineGuardOptions
  extends GuardOptions<LineCost, LineKeyOf, LineVerdict, LineErrorSource> {
  /**
   * Longest line in bytes, without its end; a longer one closes the connection, and so does one that is above the
   * burst of a rule by bytes. At least 1. Default 65,536.
   */
  maxLineBytes?: number | undefined;
  /** How lines are given. Default `'utf8'`. */
  encoding?: 'utf8' | 'latin1' | 'buffer' | undefined;
  /**
   * The last that a peer is sent, its line's end included, when it is closed or not let in. Default: nothing,
   * and who is not let in is cut at once, as by a TLS server anyway: it has no stream to say it on. What it
   * throws is told to `onError`.
   */
  farewell?: string | ((farewell: Farewell) => string | undefined) | undefined;
}

export interface LineSettings extends Settings<LineCost, LineKeyOf, LineVerdict, LineErrorSource> {
  readonly maxLineBytes: number;
  readonly encoding: 'utf8' | 'latin1' | 'buffer';
  readonly farewell: (farewell: Farewell) => string | undefined;
}
