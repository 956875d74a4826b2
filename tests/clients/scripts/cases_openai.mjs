// Every case with the official OpenAI SDK, unmodified except for base URL and key. A job in, JSON out.
import OpenAI from 'openai';
import { readFileSync } from 'node:fs';

const job = JSON.parse(readFileSync(0, 'utf8'));
const client = new OpenAI({ baseURL: `${job.url}/v1`, apiKey: job.token, maxRetries: 0 });
const tools = [{ type: 'function', function: { name: 'get_weather', description: 'The weather in a city', parameters: job.parameters } }];
const schema = {
  type: 'object',
  properties: { city: { type: 'string' }, degrees: { type: 'integer' } },
  required: ['city', 'degrees'],
  additionalProperties: false,
};
const user = (content) => [{ role: 'user', content }];
const used = (usage) => ({ input: usage.prompt_tokens, output: usage.completion_tokens });
const create = (model, messages, more = {}) => client.chat.completions.create({ model, messages, ...more });

const loop = async (model, streamed) => {
  const messages = user('How is the weather?');
  const calls = [];
  for (;;) {
    const asked = { model, messages, tools };
    const answer = streamed ? await client.chat.completions.stream(asked).finalChatCompletion() : await client.chat.completions.create(asked);
    const { message } = answer.choices[0];
    if (!message.tool_calls?.length) return { calls, text: message.content };
    messages.push(message);
    for (const call of message.tool_calls) {
      const args = JSON.parse(call.function.arguments);
      calls.push([call.function.name, args]);
      messages.push({ role: 'tool', tool_call_id: call.id, content: job.weather[args.city] });
    }
  }
};

const stream = async (model) => {
  const seen = { text: '', pieces: 0 };
  for await (const chunk of await create(model, user('Hello'), { stream: true, stream_options: { include_usage: true } })) {
    const piece = chunk.choices[0]?.delta?.content ?? '';
    seen.text += piece;
    seen.pieces += piece ? 1 : 0;
    if (chunk.usage) Object.assign(seen, used(chunk.usage));
  }
  return seen;
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
  const image = [{ type: 'text', text: 'What is this?' }, { type: 'image_url', image_url: { url: `data:image/png;base64,${job.image}` } }];
  const format = { type: 'json_schema', json_schema: { name: 'report', strict: true, schema } };
  const report = await client.chat.completions.parse({ model, messages: user('Please report.'), response_format: format });
  const again = { model, messages: user(`Fail once for openai in node at ${model}`) };
  return {
    text: { text: hello.choices[0].message.content, ...used(hello.usage) },
    stream: await stream(model),
    tools: await loop(model, false),
    stream_tools: await loop(model, true),
    image: { text: (await create(model, user(image))).choices[0].message.content },
    report: { value: report.choices[0].message.parsed },
    errors: await errors(model),
    retry: { text: (await client.chat.completions.create(again, { maxRetries: 2 })).choices[0].message.content },
  };
};

const results = {};
for (const model of job.models) results[model] = await every(model);
console.log(JSON.stringify(results));
