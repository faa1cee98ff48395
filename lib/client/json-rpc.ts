// The methods that a JSON-RPC body calls.

/** Longer bodies are not parsed. */
const MAX_CHARACTERS = 1_048_576;

/** Returns the methods that a body calls, one or a batch; none if it is not JSON-RPC 2.0. */
export function jsonRpcMethods(body: unknown): string[] {
  const text = textOf(body);
  if (text === undefined) return [];
  let calls: unknown;
  try {
    calls = JSON.parse(text);
  } catch {
    return [];
  }
  const batch: unknown[] = Array.isArray(calls) ? calls : [calls];
  const methods = batch.map(methodOf);
  return methods.includes(undefined) ? [] : (methods as string[]);
}

function textOf(body: unknown): string | undefined {
  if (typeof body === 'string') return body.length <= MAX_CHARACTERS ? body : undefined;
  const isShort = body instanceof Uint8Array && body.length <= MAX_CHARACTERS;
  return isShort ? new TextDecoder().decode(body) : undefined;
}

function methodOf(call: unknown): string | undefined {
  const { jsonrpc, method } = Object(call) as { jsonrpc?: unknown; method?: unknown };
  return jsonrpc === '2.0' && typeof method === 'string' ? method : undefined;
}
