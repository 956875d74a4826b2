// Every case with the official Anthropic SDK, unmodified except for base URL and key. A job in, JSON out.
import Anthropic from '@anthropic-ai/sdk';
import { readFileSync } from 'node:fs';

const job = JSON.parse(readFileSync(0, 'utf8'));
const client = new Anthropic({ baseURL: job.url, apiKey: job.token, maxRetries: 0 });
const tools = [{ name: 'get_weather', description: 'The weather in a city', input_schema: job.parameters }];
const schema = {
  type: 'object',
  properties: { city: { type: 'string' }, degrees: { type: 'integer' } },
  required: ['city', 'degrees'],
  additionalProperties: false,
};
const user = (content) => [{ role: 'user', content }];
const said = (message) => message.content.filter((b) => b.type === 'text').map((b) => b.text).join('');
const used = ({ usage }) => ({ input: usage.input_tokens, output: usage.output_tokens });
const create = (model, messages, options = {}) => client.messages.create({ model, max_tokens: 100, messages }, options);

const loop = async (model, streamed) => {
  const messages = user('How is the weather?');
  const calls = [];
  for (;;) {
    const asked = { model, max_tokens: 100, messages, tools };
    const message = streamed ? await client.messages.stream(asked).finalMessage() : await client.messages.create(asked);
    if (message.stop_reason !== 'tool_use') return { calls, text: said(message) };
    const results = [];
    for (const block of message.content.filter((b) => b.type === 'tool_use')) {
      calls.push([block.name, block.input]);
      results.push({ type: 'tool_result', tool_use_id: block.id, content: job.weather[block.input.city] });
    }
    messages.push({ role: 'assistant', content: message.content }, { role: 'user', content: results });
  }
};

const stream = async (model) => {
  let pieces = 0;
  const answer = client.messages.stream({ model, max_tokens: 100, messages: user('Hello') });
  answer.on('text', () => (pieces += 1));
  const message = await answer.finalMessage();
  return { text: said(message), pieces, ...used(message) };
};

const errors = async (model) => {
  const seen = [];
  for (const status of job.statuses) {
    try {
      await create(model, user(`Fail with ${status} please`));
    } catch (error) {
      seen.push({ class: error.constructor.name, status: error.status, message: error.message });
    }
  }
  return seen;
};

const every = async (model) => {
  const hello = await create(model, user('Hello'));
  const source = { type: 'base64', media_type: 'image/png', data: job.image };
  const image = [{ type: 'image', source }, { type: 'text', text: 'What is this?' }];
  const output_config = { format: { type: 'json_schema', schema } };
  const report = await client.messages.create({ model, max_tokens: 100, messages: user('Please report.'), output_config });
  return {
    text: { text: said(hello), ...used(hello) },
    stream: await stream(model),
    tools: await loop(model, false),
    stream_tools: await loop(model, true),
    image: { text: said(await create(model, user(image))) },
    report: { value: JSON.parse(said(report)) },
    errors: await errors(model),
    retry: { text: said(await create(model, user(`Fail once for anthropic in node at ${model}`), { maxRetries: 2 })) },
  };
};

const results = {};
for (const model of job.models) results[model] = await every(model);
console.log(JSON.stringify(results));
