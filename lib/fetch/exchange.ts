// One request and its response. Responses of the web standard come after the decision, so the fields of the decision are
// kept here until there is a response to set them on.

import { hasMethods } from '../common/kinds.js';

type Field = readonly [name: string, value: string];

export class Exchange<Info> {
  readonly info: Info;
  /** Answers the request. */
  readonly respond: (response: Response | PromiseLike<Response>) => void;
  readonly #fields: Field[] = [];
  /** What the handler of the request has returned. */
  response: Response | undefined;
  /** Called when there is a response that the client will get. */
  onResponse: (() => void) | undefined;

  constructor(info: Info, respond: (response: Response | PromiseLike<Response>) => void) {
    this.info = info;
    this.respond = respond;
  }

  setField(name: string, value: string | number): void {
    this.#fields.push([name, String(value)]);
  }

  /** Calls the handler of the request. The promise is that of its response with the fields. */
  async proceed(request: Request, next: () => Response | PromiseLike<Response>): Promise<Response> {
    const response = await next();
    // Some servers have handlers without a response, such as one that has upgraded the connection.
    if (!isResponse(response)) return response;
    this.response = response;
    // The signal is made when it is first read. Requests of some servers have none.
    if (this.onResponse !== undefined && !request.signal?.aborted) this.onResponse();
    return this.withFields(response);
  }

  /**
   * Adds the fields to a response, which may be a copy then: the fields of some responses cannot be changed, such as those
   * of `fetch` and `Response.redirect`. Fields that it has stay: those of a handler, and those of an inner limit, which
   * states this limit too.
   */
  withFields(response: Response): Response {
    const missing = this.#fields.filter(([name]) => !response.headers.has(name));
    if (missing.length === 0) return response;
    try {
      return setAll(response, missing);
    } catch {
      // Such a status is of no complete response: an upgrade, or an error.
      if (response.status < 200 || response.bodyUsed) return response;
      return setAll(new Response(response.body, response), missing);
    }
  }
}

function setAll(response: Response, fields: readonly Field[]): Response {
  for (const [name, value] of fields) response.headers.set(name, value);
  return response;
}

export function isResponse(value: unknown): value is Response {
  return hasMethods((value as Response | undefined)?.headers, 'has', 'set');
}
