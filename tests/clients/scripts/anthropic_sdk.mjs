// The official Anthropic SDK, unmodified except for base URL and key. One scenario a run: JSON in, JSON out.
import Anthropic from '@anthropic-ai/sdk';
import { readFileSync } from 'node:fs';

const job = JSON.parse(readFileSync(0, 'utf8'));
const client = new Anthropic({ baseURL: job.url, apiKey: job.token, maxRetries: job.max_retries ?? 0 });

const summary = (message) => ({
  text: message.content.filter((b) => b.type === 'text').map((b) => b.text).join(''),
  stop: message.stop_reason,
  calls: message.content.filter((b) => b.type === 'tool_use').map((b) => ({ name: b.name, input: b.input })),
  usage: { input: message.usage.input_tokens, output: message.usage.output_tokens },
});

const scenarios = {
  async message() {
    return summary(await client.messages.create(job.arguments));
  },
  async stream() {
    const events = [];
    const stream = client.messages.stream(job.arguments);
    for await (const event of stream) events.push(event.type);
    return { ...summary(await stream.finalMessage()), events };
  },
  async models() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    return { ids };
  },
};

let result;
try {
  result = await scenarios[job.scenario]();
} catch (error) {
  if (!(error instanceof Anthropic.APIError)) throw error;
  result = { error: error.constructor.name, status: error.status, body: error.error, message: error.message, request_id: error.requestID };
}
console.log(JSON.stringify(result));
