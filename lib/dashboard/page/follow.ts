// Follows the event stream while the page is visible. Windows of one browser share a stream if it supports that.

import { type Listener, watch } from './stream.js';
import type { ListenerCall, StreamRequest } from './worker.js';

/** Opens the stream and returns a function that closes it. */
type Open = () => () => void;

/** Passes the server's events to the listener while the page is visible. */
export function follow(listener: Listener): void {
  const unshared: Open = () => watch(listener);
  let stop = () => {};
  const use = (open: Open) => {
    stop();
    stop = document.hidden ? () => {} : open();
  };
  let open = shared(listener, () => {
    open = unshared;
    use(open);
  });
  document.addEventListener('visibilitychange', () => use(open ?? unshared));
  use(open ?? unshared);
}

/** Undefined if the browser has no shared workers. Calls `failed` if the worker cannot be loaded. */
function shared(listener: Listener, failed: () => void): Open | undefined {
  if (typeof SharedWorker === 'undefined') return undefined;
  const worker = new SharedWorker('worker.js', { type: 'module' });
  worker.onerror = failed;
  worker.port.onmessage = ({ data: { call, data } }: MessageEvent<ListenerCall>) => {
    listener[call](data as never);
  };
  const send = (request: StreamRequest) => worker.port.postMessage(request);
  return () => {
    send('open');
    return () => send('close');
  };
}
