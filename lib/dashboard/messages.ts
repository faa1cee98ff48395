// What the server tells the page: the events of its stream. Types alone; both sides are compiled with them.

/** The event `hello`, first of a stream. */
export interface Hello {
  readonly title: string;
  readonly allowLift: boolean;
  readonly intervalSeconds: number;
  /** Whatever happens, the server says something at least so often. */
  readonly aliveSeconds: number;
  /** How far back the page's charts go. */
  readonly historySeconds: number;
  readonly limiters: readonly About[];
  /** Oldest first. */
  readonly samples: readonly Sample[];
  readonly listing: Listing;
}

export interface About {
  readonly name: string;
  /** The name of its class. */
  readonly kind: string;
  /** Seconds that a ban by hand lasts at most; null: the page may not ban here. */
  readonly banDuration: number | null;
}

/** The event `sample`, about one in `intervalSeconds`. */
export interface Sample {
  /** Milliseconds since 1970. */
  readonly at: number;
  /** Since the sample before, in seconds: the time that its rates are of. */
  readonly seconds: number;
  /** The longest that the event loop was late since the sample before, in milliseconds. */
  readonly loopDelay: number;
  /** In the order of the limiters; null for one whose statistics threw. */
  readonly limiters: readonly (LimiterSample | null)[];
}

export type LimiterSample = readonly [
  allowed: number,
  delayed: number,
  disconnected: number, // checks a second
  tracked: number,
  banned: number,
  bytes: number | null, // null: the engine does not know
];

/** The event `listing`: offenders and bans. */
export interface Listing {
  readonly at: number;
  /** Bans in force, of all limiters. */
  readonly banned: number;
  /** The first of them, longest first. */
  readonly bans: readonly ListedBan[];
  /** The worst of each limiter, worst first. */
  readonly violators: readonly Listed[];
  /** The last bans that began, newest first. */
  readonly began: readonly BanEvent[];
}

export interface Listed {
  /** Which limiter, by its place among them. */
  readonly limiter: number;
  /** Anything at all: whoever is limited has chosen it. Cut at `MOST_KEY` units. */
  readonly key: string;
  /** Of a key that is cut, what tells it from others that begin alike: a short hash of all of it. */
  readonly hash?: string;
  /** Units of the whole key. */
  readonly length: number;
  readonly violations: number;
}

export interface ListedBan extends Listed {
  readonly secondsLeft: number;
}

/** A ban as it began. */
export interface BanEvent extends Listed {
  /** Counts all of them: no two events have the same. */
  readonly number: number;
  /** Milliseconds since 1970. */
  readonly at: number;
  /** How long it lasts, unless it is lifted. */
  readonly seconds: number;
}

/** What a POST to `lift` holds. */
export interface Lift {
  /** The limiter's name. */
  readonly limiter: string;
  readonly key: string;
  /** Of a key that the listing has cut, of which `key` is the beginning. */
  readonly hash?: string | undefined;
}

/** What a POST to `ban` holds. */
export interface HandBan extends Lift {
  /** Default: as long as the limiter's bans last, which is the most. */
  readonly seconds?: number | undefined;
  /** The peer has at least so many then. Default 0. */
  readonly violations?: number | undefined;
}

/** What a POST to `find` holds. */
export interface Search {
  readonly key: string;
}

/** The answer to it. */
export interface Found {
  /** One for each limiter, but for those that cannot tell. */
  readonly peers: readonly FoundPeer[];
}

export interface FoundPeer {
  /** Which limiter, by its place among them. */
  readonly limiter: number;
  /** 0 also of a peer that the limiter does not know. */
  readonly violations: number;
  /** null: the limiter bans nobody. */
  readonly banned: boolean | null;
}
