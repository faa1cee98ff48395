// The stream while the page is visible, shared with the browser's other windows where it can share.

import { type Listener, watch } from './stream.js';
import type { News, Wish } from './worker.js';

/** Opens the stream; returns what ends it. */
type Open = () => () => void;

/** Tells the listener what the server says, from now on and while the page is visible. */
export function follow(listener: Listener): void {
  const alone: Open = () => watch(listener);
  let stop = () => {};
  const use = (open: Open) => {
    stop();
    stop = document.hidden ? () => {} : open();
  };
  let open = shared(listener, () => {
    open = alone;
    use(open);
  });
  document.addEventListener('visibilitychange', () => use(open ?? alone));
  use(open ?? alone);
}

/** undefined where there are no shared workers; `failed` is called where this one cannot be loaded. */
function shared(listener: Listener, failed: () => void): Open | undefined {
  if (typeof SharedWorker === 'undefined') return undefined;
  const worker = new SharedWorker('worker.js', { type: 'module' });
  worker.onerror = failed;
  worker.port.onmessage = ({ data: { call, data } }: MessageEvent<News>) => {
    listener[call](data as never);
  };
  const say = (wish: Wish) => worker.port.postMessage(wish);
  return () => {
    say('open');
    return () => say('close');
  };
}
