// A call of a script in full, within the deadline: for rare calls, which need none of what a shard does for its calls.

import type { StoreClient } from './client.js';
import { type Deadlines, PendingReply } from './deadlines.js';
import { messageOf, storeError } from './replies.js';

/**
 * Calls one of the functions: `answered` in the very turn of the reply, or `failed` with an `ERR_LIMITER_STORE`. A reply after the
 * deadline is ignored.
 */
export function evalInTime(
  { client, deadlines }: { readonly client: StoreClient; readonly deadlines: Deadlines },
  script: string,
  keys: string[],
  args: string[],
  answered: (reply: unknown) => void,
  failed: (error: Error) => void,
): void {
  const pending = new PendingReply(failed);
  deadlines.add(pending);
  client.eval(script, keys, args).then(
    (reply) => {
      if (pending.end()) answered(reply);
    },
    (error) => {
      if (pending.end()) failed(storeError(messageOf(error), error));
    },
  );
}
