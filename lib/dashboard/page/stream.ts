// Reads the event stream, reopens it when it ends, and detects a server that hangs.

import type { Hello, Listing, Sample } from '../messages.js';

export interface Listener {
  hello(hello: Hello): void;
  sample(sample: Sample): void;
  listing(listing: Listing): void;
  /** Called with a text about a problem of the stream, or with undefined when the stream works again. */
  trouble(why: string | undefined): void;
}

/** Milliseconds after which a refused stream is opened again. */
const REOPEN_MS = 3000;

/** The server counts as hanging after this multiple of its `aliveSeconds` without an event. */
const TIMEOUT_FACTOR = 3;
/** Seconds within which the first event must arrive. */
const FIRST_TIMEOUT_SECONDS = 10;

const HANGS = 'The server does not answer; trying again';
const LOST = 'The connection is lost; trying again';
const REFUSALS: Readonly<Record<number, string>> = {
  401: 'The token is needed again: reload this page',
  403: 'The server denies access to this machine',
  503: 'Too many pages show this dashboard already; trying again',
};

/** Opens the stream and returns a function that closes it. */
export function watch(listener: Listener): () => void {
  let source: EventSource;
  let timeoutSeconds = FIRST_TIMEOUT_SECONDS;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let stopped = false;
  const open = () => {
    source = new EventSource('events');
    timeoutSeconds = FIRST_TIMEOUT_SECONDS;
    on<Hello>('hello', (hello) => {
      timeoutSeconds = TIMEOUT_FACTOR * hello.aliveSeconds;
      restartTimeout();
      listener.trouble(undefined);
      listener.hello(hello);
    });
    on<Sample>('sample', (sample) => listener.sample(sample));
    on<Listing>('listing', (listing) => listener.listing(listing));
    on('alive', () => {});
    source.onerror = lost;
    restartTimeout();
  };
  // A server that hangs, or a network that fails, does not close the connection, so only a timeout detects it.
  const restartTimeout = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      source.close();
      listener.trouble(HANGS);
      open();
    }, timeoutSeconds * 1000);
  };
  const on = <Data>(event: string, handle: (data: Data) => void) => {
    source.addEventListener(event, (message) => {
      restartTimeout();
      handle(JSON.parse(message.data));
    });
  };
  const lost = () => {
    restartTimeout();
    listener.trouble(LOST);
    // The browser reopens a lost stream itself, but not a refused one. It does not expose the reason either.
    if (source.readyState !== EventSource.CLOSED) return;
    clearTimeout(timer);
    timer = setTimeout(open, REOPEN_MS);
    void reason().then((why) => stopped || listener.trouble(why));
  };
  open();
  return () => {
    stopped = true;
    clearTimeout(timer);
    source.close();
  };
}

async function reason(): Promise<string> {
  try {
    const { status } = await fetch('events', { method: 'HEAD' });
    return REFUSALS[status] ?? LOST;
  } catch {
    return LOST;
  }
}
