// The official Anthropic SDK, unmodified except for base URL and key. A job, or the steps of one: JSON in, JSON out.
import Anthropic from '@anthropic-ai/sdk';
import { readFileSync } from 'node:fs';

const job = JSON.parse(readFileSync(0, 'utf8'));
const client = new Anthropic({ baseURL: job.url, apiKey: job.token, maxRetries: job.max_retries ?? 0 });

const read = (usage) =>
  usage.input_tokens + (usage.cache_read_input_tokens ?? 0) + (usage.cache_creation_input_tokens ?? 0);

const summary = (message) => ({
  text: message.content.filter((b) => b.type === 'text').map((b) => b.text).join(''),
  stop: message.stop_reason,
  calls: message.content.filter((b) => b.type === 'tool_use').map((b) => ({ name: b.name, input: b.input })),
  usage: { input: read(message.usage), output: message.usage.output_tokens },
});

const scenarios = {
  async message(args) {
    return summary(await client.messages.create(args));
  },
  async stream(args) {
    const events = [];
    const stream = client.messages.stream(args);
    for await (const event of stream) events.push(event.type);
    return { ...summary(await stream.finalMessage()), events };
  },
  async count(args) {
    return { input_tokens: (await client.messages.countTokens(args)).input_tokens };
  },
  async models() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    return { ids };
  },
};

const run = async (step) => {
  try {
    return await scenarios[step.scenario](step.arguments);
  } catch (error) {
    if (!(error instanceof Anthropic.APIError)) throw error;
    const { status, error: body, message, requestID: request_id } = error;
    return { error: error.constructor.name, status, body, message, request_id, retry_after: error.headers?.get('retry-after') };
  }
};

const results = [];
for (const step of job.steps ?? [job]) results.push(await run(step));
console.log(JSON.stringify(job.steps ? { results } : results[0]));
