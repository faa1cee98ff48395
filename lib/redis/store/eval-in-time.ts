// Sends a script in full, with a deadline, without a shard's queue and script cache: for rare calls.

import type { StoreClient } from './client.js';
import { type Deadlines, PendingReply } from './deadlines.js';
import { messageOf, storeError } from './replies.js';

/**
 * Calls `answered` in the very turn of the reply, or `failed` with an `ERR_LIMITER_STORE`. `late` gets a reply after the
 * deadline.
 */
export function evalInTime(
  { client, deadlines }: { readonly client: StoreClient; readonly deadlines: Deadlines },
  script: string,
  keys: string[],
  args: string[],
  answered: (reply: unknown) => void,
  failed: (error: Error) => void,
  late: (reply: unknown) => void = () => {},
): void {
  const pending = new PendingReply(failed);
  deadlines.add(pending);
  client.eval(script, keys, args).then(
    (reply) => {
      if (pending.end()) answered(reply);
      else late(reply);
    },
    (error) => {
      if (pending.end()) failed(storeError(messageOf(error), error));
    },
  );
}
