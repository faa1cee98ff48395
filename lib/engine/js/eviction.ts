// Eviction: which of some peers is missed least where a newcomer needs the place of one. Twin of
// native/limiters/eviction.h. Knows no limiter.

import type { Place, Table } from '../../tables/table.js';

/** Records that are looked at where a newcomer needs the place of one. */
export const SAMPLE = 16;
/** The most records of a table that are looked at, where none of those before can go. */
export const MOST_LOOKED_AT = 1024;

/** What is lost where a peer is forgotten; what comes first in the order of losses goes first. */
export interface Loss {
  /** Whether it has violations that a check would not forgive. */
  readonly punished: boolean;
  readonly violations: number;
  /**
   * Of an unpunished peer: the seconds until nobody can tell it from a fresh one, 0 where nobody
   * can. Of a punished one: minus the seconds for which it has been idle.
   */
  readonly rest: number;
}

/** That of a banned peer: nobody goes for it, and all others do before it. */
export const LOSS_OF_BANNED: Loss = { punished: true, violations: Infinity, rest: Infinity };

export function lossOfUnpunished(seconds: number): Loss {
  return { punished: false, violations: 0, rest: seconds };
}

export function lossOfPunished(violations: number, idle: number): Loss {
  return { punished: true, violations, rest: -idle };
}

export function isNothing(loss: Loss): boolean {
  return !loss.punished && loss.rest <= 0;
}

function isLess(a: Loss, b: Loss): boolean {
  if (a.punished !== b.punished) return b.punished;
  return a.violations !== b.violations ? a.violations < b.violations : a.rest < b.rest;
}

/**
 * Room for a newcomer. Whose it was, if anybody's, goes when the newcomer is there: without memory
 * for that nothing has changed.
 */
export interface Room {
  /** The place that another key gives up; undefined: a new one. */
  readonly place: Place | undefined;
  readonly victim: { readonly key: string; readonly loss: Loss } | undefined;
}

/** Nobody has to go. */
export const FREE_ROOM: Room = { place: undefined, victim: undefined };

/**
 * Offers sixteen random records to `victim`, and while none of them can go others, up to `most`.
 * `offer` returns true where the search can end.
 */
export function offerSample(
  table: Table,
  most: number,
  victim: Victim,
  offer: (place: Place) => boolean,
): void {
  table.sample(SAMPLE, offer);
  if (victim.place !== undefined || most <= SAMPLE) return;
  table.sample(most, (place) => {
    offer(place);
    return victim.place !== undefined;
  });
}

/**
 * The place that is given up, of those that were offered: the least loss, and one below `worth`,
 * that of the newcomer, for which it goes.
 */
export class Victim {
  /** Undefined: nobody may go. */
  place: Place | undefined;
  loss: Loss;

  constructor(worth: Loss) {
    this.loss = worth;
  }

  /**
   * Whether one may go that is so many seconds from fresh. What else is to be known of it is dear,
   * and only worth looking up if so.
   */
  mayBe(seconds: number): boolean {
    return this.loss.punished || seconds < this.loss.rest;
  }

  /** True where it cannot be bettered. */
  offer(place: Place, loss: Loss): boolean {
    if (!isLess(loss, this.loss)) return false;
    this.place = place;
    this.loss = loss;
    return isNothing(loss);
  }
}
