// SharedBan: what processes exchange about one peer.

/** A ban, or violations without one, of a peer. */
export interface SharedBan {
  /** The peer. A name of more than 128 UTF-16 code units that another process reported is given as its digest. */
  readonly key: string;
  /** Seconds that the ban has left; 0 if there are only violations. */
  readonly seconds: number;
  readonly violations: number;
}
