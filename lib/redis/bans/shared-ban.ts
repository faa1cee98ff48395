// SharedBan: what processes tell one another about a peer.

export interface SharedBan {
  /** The peer; a name of more than 128 units that another process found is given as its digest. */
  readonly key: string;
  /** Seconds that the ban has left; 0: no ban, a level of violations alone. */
  readonly seconds: number;
  readonly violations: number;
}
