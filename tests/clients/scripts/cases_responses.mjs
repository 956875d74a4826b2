// Every case of the Responses API with the official OpenAI SDK, unmodified except for base URL and key. A job in, JSON out.
import OpenAI from 'openai';
import { readFileSync } from 'node:fs';

const job = JSON.parse(readFileSync(0, 'utf8'));
const client = new OpenAI({ baseURL: `${job.url}/v1`, apiKey: job.token, maxRetries: 0 });
const tools = [{ type: 'function', name: 'get_weather', description: 'The weather in a city', parameters: job.parameters, strict: false }];
const schema = {
  type: 'object',
  properties: { city: { type: 'string' }, degrees: { type: 'integer' } },
  required: ['city', 'degrees'],
  additionalProperties: false,
};
const used = (usage) => ({ input: usage.input_tokens, output: usage.output_tokens });
const create = (model, input, more = {}) => client.responses.create({ model, input, ...more });

const loop = async (model, streamed) => {
  const input = [{ role: 'user', content: 'How is the weather?' }];
  const calls = [];
  for (;;) {
    const asked = { model, input, tools, store: false };
    const answer = streamed ? await client.responses.stream(asked).finalResponse() : await client.responses.create(asked);
    const made = answer.output.filter((item) => item.type === 'function_call');
    if (!made.length) return { calls, text: answer.output_text };
    input.push(...answer.output);
    for (const call of made) {
      const args = JSON.parse(call.arguments);
      calls.push([call.name, args]);
      input.push({ type: 'function_call_output', call_id: call.call_id, output: job.weather[args.city] });
    }
  }
};

const stream = async (model) => {
  const seen = { text: '', pieces: 0 };
  for await (const event of await create(model, 'Hello', { stream: true })) {
    if (event.type === 'response.output_text.delta') {
      seen.text += event.delta;
      seen.pieces += 1;
    }
    if (event.type === 'response.completed') Object.assign(seen, used(event.response.usage));
  }
  return seen;
};

const errors = async (model) => {
  const seen = [];
  for (const status of job.statuses) {
    try {
      await create(model, `Fail with ${status} please`);
    } catch (error) {
      seen.push({ class: error.constructor.name, status: error.status, message: error.message });
    }
  }
  return seen;
};

const every = async (model) => {
  const hello = await create(model, 'Hello', { instructions: 'Be kind.' });
  const picture = [{ type: 'input_text', text: 'What is this?' }, { type: 'input_image', detail: 'auto', image_url: `data:image/png;base64,${job.image}` }];
  const format = { type: 'json_schema', name: 'report', strict: true, schema };
  const report = await create(model, 'Please report.', { text: { format } });
  const again = { model, input: `Fail once for responses in node at ${model}` };
  return {
    text: { text: hello.output_text, ...used(hello.usage) },
    stream: await stream(model),
    tools: await loop(model, false),
    stream_tools: await loop(model, true),
    image: { text: (await create(model, [{ role: 'user', content: picture }])).output_text },
    report: { value: JSON.parse(report.output_text) },
    errors: await errors(model),
    retry: { text: (await client.responses.create(again, { maxRetries: 2 })).output_text },
  };
};

const results = {};
for (const model of job.models) results[model] = await every(model);
console.log(JSON.stringify(results));
