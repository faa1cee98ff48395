// The options that say how responses are read: what refuses a request, and what a response says about limits.

import { callback } from '../common/options.js';
import { headersOf, type ResponseHeaders } from '../headers/containers.js';
import { ageOf, type ResponseLimits, readResetFormat, readResponse } from '../headers/parse.js';
import type { ResetFormat } from '../headers/resets.js';
import type { RateLimitInfo } from '../headers/types.js';
import { requireInfo } from './options.js';
import { isRefusal } from './response.js';

/** The status and the headers of a response. A `Response` of fetch is one. */
export interface ResponseHead {
  readonly status: number;
  readonly headers: Pick<Headers, 'get'>;
}

/** Options of `limitInterceptor` for the responses of servers that say their limits in a way of their own. */
export interface ResponseOptions {
  /**
   * Returns what a response says about limits. Default: what `parseRateLimitHeaders` returns. The response may have any
   * status.
   */
  read?: ((response: ResponseHead) => RateLimitInfo) | undefined;
  /**
   * Returns whether a response refuses its request because there were too many; undefined for the default, which is
   * true for the statuses 429 and 503, and for 403 with `Retry-After` or with a limit of which nothing remains.
   */
  isRefusal?: ((response: ResponseHead, info: RateLimitInfo) => boolean | undefined) | undefined;
  /**
   * Returns whether a refusal is about the common limits of a `PolicyLimiterGroup` (the option `common`, or `within` of a
   * limiter), so that it holds back the requests of all keys. It is called for refusals only, and only their wait counts
   * then. Default: false.
   */
  isCommon?: ((response: ResponseHead, info: RateLimitInfo) => boolean) | undefined;
  /** The format of resets if recognition from the text would be wrong. `read` ignores it. Default: `auto`. */
  resetFormat?: ResetFormat | undefined;
}

/** The names of `ResponseOptions`. */
export const RESPONSE_OPTIONS = ['read', 'isRefusal', 'isCommon', 'resetFormat'];

/** Validated options. `R` is the type of the responses that the functions receive. */
export interface ResponseSettings<R, Info, Refusal, Common> {
  readonly read: ((response: R) => Info) | undefined;
  readonly isRefusal: ((response: R, info: RateLimitInfo) => Refusal) | undefined;
  readonly isCommon: ((response: R, info: RateLimitInfo) => Common) | undefined;
  readonly resetFormat: ResetFormat;
}

/** @throws ERR_LIMITER_OPTION */
export function readResponseOptions<R, Info, Refusal, Common>(
  given: Readonly<Record<string, unknown>>,
): ResponseSettings<R, Info, Refusal, Common> {
  return {
    read: callback<(response: R) => Info>(given, 'read'),
    isRefusal: callback<(response: R, info: RateLimitInfo) => Refusal>(given, 'isRefusal'),
    isCommon: callback<(response: R, info: RateLimitInfo) => Common>(given, 'isCommon'),
    resetFormat: readResetFormat(given),
  };
}

/** What a response says, and whether it refuses its request. */
export interface ReadResponse extends ResponseLimits {
  readonly refused: boolean;
  /** Whether it is about the limits within which the limiter is, and not about its own. */
  readonly within: boolean;
}

/** Reads a response by its status and headers. @throws what the user's functions throw, ERR_LIMITER_OPTION */
export function readHead(
  settings: ResponseSettings<ResponseHead, RateLimitInfo, boolean | undefined, boolean>,
  status: number,
  headers: ResponseHeaders,
): ReadResponse {
  const { read, isRefusal: ask, isCommon } = settings;
  if ((read ?? ask ?? isCommon) === undefined) {
    return asRead(readDefault(headers, settings.resetFormat), status);
  }
  const response = { status, headers: headersOf(headers) };
  const limits =
    read === undefined
      ? readDefault(headers, settings.resetFormat)
      : { info: read(response), ageSeconds: ageOf(headers) };
  requireInfo(limits.info, status);
  const result = asRead(limits, status, ask?.(response, limits.info));
  return result.refused && isCommon?.(response, limits.info) ? asCommon(result) : result;
}

type FetchResponseSettings = ResponseSettings<
  Response,
  RateLimitInfo | PromiseLike<RateLimitInfo>,
  boolean | undefined | PromiseLike<boolean | undefined>,
  boolean | PromiseLike<boolean>
>;

/**
 * Reads a response of fetch; the user's functions may read its body. Without such functions it returns no promise.
 * @throws as `readHead`
 */
export function readFetchResponse(
  settings: FetchResponseSettings,
  response: Response,
): ReadResponse | Promise<ReadResponse> {
  const { read, isRefusal, isCommon, resetFormat } = settings;
  if (read ?? isRefusal ?? isCommon) return askUser(settings, response);
  return asRead(readDefault(response.headers ?? {}, resetFormat), response.status);
}

async function askUser(
  { read, isRefusal: ask, isCommon, resetFormat }: FetchResponseSettings,
  response: Response,
): Promise<ReadResponse> {
  // Responses of tests may have no headers.
  const { status, headers = {} } = response;
  const limits =
    read === undefined
      ? readDefault(headers, resetFormat)
      : { info: await read(response), ageSeconds: ageOf(headers) };
  if (read !== undefined) requireInfo(limits.info, status);
  const refused = ask === undefined ? undefined : await ask(response, limits.info);
  const result = asRead(limits, status, refused);
  return result.refused && (await isCommon?.(response, limits.info)) ? asCommon(result) : result;
}

function asRead(limits: ResponseLimits, status: number, refused?: boolean): ReadResponse {
  const { info, ageSeconds } = limits;
  return { info, ageSeconds, refused: refused ?? isRefusal(status, info), within: false };
}

/** The limits in the response are those of the key, which has not refused it. */
function asCommon(result: ReadResponse): ReadResponse {
  return { ...result, info: { ...result.info, policies: [], limits: [] }, within: true };
}

function readDefault(headers: ResponseHeaders, resetFormat: ResetFormat): ResponseLimits {
  return readResponse(headers, { now: undefined, strict: false, resetFormat });
}
