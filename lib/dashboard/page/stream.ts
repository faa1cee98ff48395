// The stream of events, opened again whenever it ends.

import type { Hello, Listing, Sample } from '../messages.js';

export interface Listener {
  hello(hello: Hello): void;
  sample(sample: Sample): void;
  listing(listing: Listing): void;
  /** What is wrong, for people; undefined: nothing. */
  trouble(why: string | undefined): void;
}

/** Milliseconds until a server that refused is asked again. */
const AGAIN = 3000;

/** Of the time within which the server says something, after which it is taken to hang. */
const PATIENCE = 3;
/** Seconds that it has for its first words. */
const FIRST_WORDS = 10;

const HANGS = 'The server does not answer; trying again';
const LOST = 'The connection is lost; trying again';
const REFUSALS: Readonly<Record<number, string>> = {
  401: 'The token is needed again: reload this page',
  403: 'The server shows this no longer to this machine',
  503: 'Too many look at this already; trying again',
};

/** Returns what ends it. */
export function watch(listener: Listener): () => void {
  let source: EventSource;
  let patience = FIRST_WORDS;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let stopped = false;
  const open = () => {
    source = new EventSource('events');
    patience = FIRST_WORDS;
    on<Hello>('hello', (hello) => {
      patience = PATIENCE * hello.aliveSeconds;
      heard();
      listener.trouble(undefined);
      listener.hello(hello);
    });
    on<Sample>('sample', (sample) => listener.sample(sample));
    on<Listing>('listing', (listing) => listener.listing(listing));
    on('alive', () => {});
    source.onerror = lost;
    heard();
  };
  // A server that hangs keeps its connections, and so does a network that is gone.
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      source.close();
      listener.trouble(HANGS);
      open();
    }, patience * 1000);
  };
  const on = <Data>(event: string, hear: (data: Data) => void) => {
    source.addEventListener(event, (message) => {
      heard();
      hear(JSON.parse(message.data));
    });
  };
  const lost = () => {
    heard();
    listener.trouble(LOST);
    // The browser tries again by itself, but not where it was refused, and then it does not say why.
    if (source.readyState !== EventSource.CLOSED) return;
    clearTimeout(timer);
    timer = setTimeout(open, AGAIN);
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
