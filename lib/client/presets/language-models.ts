// OpenAI and Anthropic: limits of requests and of tokens at the same time.

import { readOptions } from '../../common/options.js';
import type { Costs } from '../cost.js';
import type { LimitedRequest } from '../options.js';
import {
  ALL_METHODS,
  asAmount,
  asRecord,
  jsonOf,
  jsonOfRequest,
  type LimiterPreset,
} from './preset.js';

const WINDOW_SECONDS = 60;
/** The usual length of a token in English text. */
const CHARACTERS_PER_TOKEN = 4;
/** The assumed length of an answer if the request sets no maximum. */
const DEFAULT_ANSWER_TOKENS = 256;

/** Options of the preset `openai`. */
export interface OpenAIOptions {
  /** Default: 500. */
  requestsPerMinute?: number | undefined;
  /** Default: 30,000. */
  tokensPerMinute?: number | undefined;
  /** Returns the tokens of a request and its answer. Default: an estimate from the body. */
  tokensOf?: ((request: LimitedRequest) => number) | undefined;
}

/** See `Presets.openai`. */
export function openai(options?: OpenAIOptions): LimiterPreset {
  const given = readOptions('presets.openai', options, [
    'requestsPerMinute',
    'tokensPerMinute',
    'tokensOf',
  ]) as OpenAIOptions;
  const { requestsPerMinute = 500, tokensPerMinute = 30_000, tokensOf = tokensOfBody } = given;
  return {
    limiter: {
      policies: [
        { name: 'requests', quota: requestsPerMinute, windowSeconds: WINDOW_SECONDS },
        { name: 'tokens', quota: tokensPerMinute, windowSeconds: WINDOW_SECONDS, unit: 'tokens' },
      ],
    },
    fetch: {
      retryMethods: ALL_METHODS,
      cost: (request): Costs => {
        // A larger cost could never be taken.
        return { requests: 1, tokens: Math.min(tokensOf(request), tokensPerMinute) };
      },
      async isRefusal(response) {
        if (response.status !== 429) return undefined;
        const { error } = await jsonOf(response);
        return asRecord(error)['code'] === 'insufficient_quota' ? false : undefined;
      },
    },
  };
}

/** Options of the preset `anthropic`. */
export interface AnthropicOptions {
  /** Default: 50. */
  requestsPerMinute?: number | undefined;
  /** Default: 30,000. */
  inputTokensPerMinute?: number | undefined;
  /** Default: 8,000. */
  outputTokensPerMinute?: number | undefined;
}

/** See `Presets.anthropic`. */
export function anthropic(options?: AnthropicOptions): LimiterPreset {
  const given = readOptions('presets.anthropic', options, [
    'requestsPerMinute',
    'inputTokensPerMinute',
    'outputTokensPerMinute',
  ]) as AnthropicOptions;
  const {
    requestsPerMinute = 50,
    inputTokensPerMinute = 30_000,
    outputTokensPerMinute = 8_000,
  } = given;
  const policyOf = (unit: string, quota: number) => {
    return { name: unit, quota, windowSeconds: WINDOW_SECONDS, unit };
  };
  return {
    limiter: {
      policies: [
        policyOf('requests', requestsPerMinute),
        policyOf('input-tokens', inputTokensPerMinute),
        policyOf('output-tokens', outputTokensPerMinute),
      ],
    },
    fetch: {
      retryMethods: ALL_METHODS,
      cost: ({ body }): Costs => ({
        requests: 1,
        'input-tokens': Math.min(inputTokens(body), inputTokensPerMinute),
        'output-tokens': Math.min(answerTokens(body), outputTokensPerMinute),
      }),
      isRefusal: ({ status }) => (status === 529 ? true : undefined),
    },
  };
}

function tokensOfBody({ body }: LimitedRequest): number {
  return inputTokens(body) + answerTokens(body);
}

function inputTokens(body: unknown): number {
  const { messages, input, prompt, system } = jsonOfRequest(body);
  const text = JSON.stringify([messages, input, prompt, system].filter((part) => part != null));
  return Math.ceil(text.length / CHARACTERS_PER_TOKEN);
}

function answerTokens(body: unknown): number {
  const { max_tokens, max_completion_tokens, max_output_tokens } = jsonOfRequest(body);
  const given = max_completion_tokens ?? max_output_tokens ?? max_tokens;
  return asAmount(given) ?? DEFAULT_ANSWER_TOKENS;
}
