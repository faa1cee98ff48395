// The types of the messages between server and page. Both are compiled with them.

/** A length of time in seconds. JSON has no Infinity. */
export type Seconds = number | 'forever';

export function encodeSeconds(seconds: number): Seconds {
  return seconds === Infinity ? 'forever' : seconds;
}

export function decodeSeconds(seconds: Seconds): number {
  return seconds === 'forever' ? Infinity : seconds;
}

/** The event `hello`, the first of a stream. */
export interface Hello {
  readonly title: string;
  readonly allowLift: boolean;
  readonly intervalSeconds: number;
  /** The maximum number of seconds between two events. */
  readonly aliveSeconds: number;
  /** The time span of the charts, in seconds. */
  readonly historySeconds: number;
  /** Whether there is a RuleLimiter. */
  readonly hasRules: boolean;
  /** Whether there is a guard. */
  readonly hasGuards: boolean;
  /** Whether there are shared limits. */
  readonly hasFleets: boolean;
  /** Whether there are shared bans. */
  readonly hasSharedBans: boolean;
  /** Each limiter, and of a RuleLimiter the whole and then each scope. */
  readonly limiters: readonly About[];
  /** Oldest first. */
  readonly samples: readonly Sample[];
  readonly listing: Listing;
}

export interface About {
  readonly name: string;
  /** The name of the limiter's class. */
  readonly kind: string;
  /** How the page may ban by hand; null if it must not. */
  readonly ban: HandBans | null;
  /** Whether lifting a ban forgets the peer; null if there are no bans. */
  readonly liftForgets: boolean | null;
  /** The place of the RuleLimiter in `Hello.limiters`, if this is one of its scopes; else null. */
  readonly whole: number | null;
}

/** The lengths of bans by hand, in seconds. */
export interface HandBans {
  /** The suggested one. */
  readonly seconds: number;
  readonly most: Seconds;
}

/** The event `sample`, about one per `intervalSeconds`. */
export interface Sample {
  /** Milliseconds since 1970. */
  readonly at: number;
  /** Seconds since the previous sample. Rates are averages over this time. */
  readonly seconds: number;
  /** The longest delay of the event loop since the previous sample, in milliseconds. */
  readonly loopDelay: number;
  /** In the order of the limiters; null if the statistics of a limiter threw. */
  readonly limiters: readonly (LimiterSample | null)[];
}

export type LimiterSample = readonly [
  allowed: number,
  delayed: number,
  disconnected: number, // checks per second
  tracked: number,
  banned: number,
  bytes: number | null, // null if the engine does not report it
];

/** The event `listing`: offenders and bans. */
export interface Listing {
  readonly at: number;
  /** The number of bans in force, of all limiters. */
  readonly banned: number;
  /** The longest of these bans, longest first. */
  readonly bans: readonly ListedBan[];
  /** The top violators of each limiter, most violations first. */
  readonly violators: readonly Listed[];
  /** The latest bans, newest first. */
  readonly began: readonly BanEvent[];
  /** The rules of all RuleLimiters as of the last sample, most refusals first. */
  readonly rules: readonly ListedRule[];
  /** The guards as of the last sample, in the order of the option. */
  readonly guards: readonly ListedGuard[];
  /** Shared limits, in the order of the option. */
  readonly fleets: readonly ListedFleet[];
  /** Shared bans, in the order of the option. */
  readonly sharedBans: readonly ListedSharedBans[];
}

/** The listing before the first one. */
export const NO_LISTING: Listing = {
  at: 0,
  banned: 0,
  bans: [],
  violators: [],
  began: [],
  rules: [],
  guards: [],
  fleets: [],
  sharedBans: [],
};

/** What all processes of a shared limit have done. */
export interface ListedFleet {
  readonly name: string;
  /** Whether the store has not answered the last question: the rest is of an earlier answer. */
  readonly isLost: boolean;
  /** Processes; null before the first answer. */
  readonly nodes: number | null;
  /** Totals; null before the first answer. */
  readonly verdicts: readonly [allowed: number, delayed: number, disconnected: number] | null;
  /** Checks per second between the last two answers; null without them. */
  readonly perSecond: readonly [allowed: number, refused: number] | null;
  /** The worst one first. */
  readonly offenders: readonly ListedOffender[];
}

/** A peer that processes have refused. */
export interface ListedOffender extends PeerKey {
  /** The scope of the key, of shared rules. */
  readonly scope?: string;
  readonly refusals: number;
}

/** Bans that all processes share. */
export interface ListedSharedBans {
  readonly name: string;
  /** The number of bans in force. */
  readonly banned: number;
  /** The longest of them, longest first. */
  readonly bans: readonly (PeerKey & { readonly secondsLeft: Seconds })[];
}

/** A guard: its connections now, and its totals by reason. */
export interface ListedGuard {
  readonly name: string;
  readonly open: number;
  readonly paused: number;
  /** Connections refused. */
  readonly refused: Readonly<Record<string, number>>;
  /** Messages dropped, and messages that the guard did not send. */
  readonly dropped: Readonly<Record<string, number>>;
  /** Connections closed. */
  readonly closed: Readonly<Record<string, number>>;
}

export interface ListedRule {
  readonly rule: string;
  /** The name of its scope on the page. A single scope is in no other list. */
  readonly scope: string;
  /** The place of its RuleLimiter in `Hello.limiters`. */
  readonly whole: number;
  /** Refusals per second in the last sample, those on dry run included. */
  readonly perSecond: number;
  /** Totals. */
  readonly refused: number;
  readonly dryRunRefused: number;
}

/** The key of a peer. */
export interface PeerKey {
  /** Any text: the peer may have chosen it. Truncated to `MAX_KEY_UNITS` code units. */
  readonly key: string;
  /** A short hash of the whole key, if `key` is truncated: it distinguishes keys with the same beginning. */
  readonly hash?: string;
  /** The length of the whole key, in code units. */
  readonly length: number;
}

export interface Listed extends PeerKey {
  /** The index of the limiter in `Hello.limiters`. */
  readonly limiter: number;
  readonly violations: number;
}

export interface ListedBan extends Listed {
  readonly secondsLeft: Seconds;
}

/** The beginning of a ban. */
export interface BanEvent extends Listed {
  /** A unique, increasing number. */
  readonly number: number;
  /** Milliseconds since 1970. */
  readonly at: number;
  /** The duration of the ban, unless it is lifted. */
  readonly seconds: Seconds;
}

/** The body of a POST request to `lift`. */
export interface Lift {
  /** The limiter's name. */
  readonly limiter: string;
  readonly key: string;
  /** The hash of the whole key, if `key` is truncated. */
  readonly hash?: string | undefined;
}

/** The body of a POST request to `ban`. */
export interface HandBan extends Lift {
  /** Default: the ban duration of the limiter, which is also the maximum unless it is a scope of a RuleLimiter. */
  readonly seconds?: Seconds | undefined;
  /** The minimum number of violations that the peer has afterwards. Default 0. A scope of a RuleLimiter ignores it. */
  readonly violations?: number | undefined;
}

/** The body of a POST request to `find`. */
export interface Search {
  readonly key: string;
}

/** The response to a POST request to `find`. */
export interface Found {
  /** One entry for each limiter, except for limiters whose methods throw. */
  readonly peers: readonly FoundPeer[];
}

export interface FoundPeer {
  /** The index of the limiter in `Hello.limiters`. */
  readonly limiter: number;
  /** 0 for an unknown peer too. */
  readonly violations: number;
  /** null if the limiter does not support bans. */
  readonly banned: boolean | null;
  /** The remaining seconds of the ban, if the limiter knows them. */
  readonly secondsLeft?: Seconds;
}
