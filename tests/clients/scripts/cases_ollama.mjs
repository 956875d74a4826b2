// Every case with Ollama's official SDK on its own API, unmodified except for host and key. A job in, JSON out.
import { Ollama } from 'ollama';
import { readFileSync } from 'node:fs';

const job = JSON.parse(readFileSync(0, 'utf8'));
const client = new Ollama({ host: `${job.url}/providers/ollama`, headers: { Authorization: `Bearer ${job.token}` } });
const tools = [{ type: 'function', function: { name: 'get_weather', description: 'The weather in a city', parameters: job.parameters } }];
const schema = { type: 'object', properties: { city: { type: 'string' }, degrees: { type: 'integer' } }, required: ['city', 'degrees'] };
const user = (content, more = {}) => [{ role: 'user', content, ...more }];
const used = (answer) => ({ input: answer.prompt_eval_count, output: answer.eval_count });
const failure = (error) => ({ class: error.name, status: error.status_code, message: error.error });

const stream = async (model) => {
  const seen = { text: '', pieces: 0 };
  for await (const piece of await client.chat({ model, messages: user('Hello'), stream: true })) {
    seen.text += piece.message.content;
    seen.pieces += piece.message.content ? 1 : 0;
    if (piece.done) Object.assign(seen, used(piece));
  }
  return seen;
};

const loop = async (model, streamed) => {
  const messages = user('How is the weather?');
  const calls = [];
  for (;;) {
    const answer = await client.chat({ model, messages, tools, stream: streamed });
    const message = { role: 'assistant', content: '', tool_calls: [] };
    for await (const piece of streamed ? answer : [answer]) {
      message.content += piece.message.content;
      message.tool_calls.push(...(piece.message.tool_calls ?? []));
    }
    if (!message.tool_calls.length) return { calls, text: message.content };
    messages.push(message);
    for (const call of message.tool_calls) {
      calls.push([call.function.name, call.function.arguments]);
      messages.push({ role: 'tool', tool_name: call.function.name, content: job.weather[call.function.arguments.city] });
    }
  }
};

const generate = async (model) => {
  let streamed = '';
  for await (const piece of await client.generate({ model, prompt: 'Hello', stream: true })) streamed += piece.response;
  return { text: (await client.generate({ model, prompt: 'Hello' })).response, streamed };
};

const failing = async (model, content) => {
  try {
    await client.chat({ model, messages: user(content) });
  } catch (error) {
    return failure(error);
  }
  return null;
};

const every = async (model) => {
  const hello = await client.chat({ model, messages: user('Hello') });
  const image = await client.chat({ model, messages: user('What is this?', { images: [job.image] }) });
  const report = await client.chat({ model, messages: user('Please report.'), format: schema });
  const { embeddings } = await client.embed({ model, input: ['one', 'two'] });
  const errors = [];
  for (const status of job.statuses) errors.push(await failing(model, `Fail with ${status} please`));
  const { message: _, ...refused } = await failing('other', 'Hello');
  return {
    text: { text: hello.message.content, ...used(hello) },
    stream: await stream(model),
    tools: await loop(model, false),
    stream_tools: await loop(model, true),
    image: { text: image.message.content },
    report: { value: JSON.parse(report.message.content) },
    embed: { count: embeddings.length, dimensions: embeddings[0].length },
    generate: await generate(model),
    errors,
    refused,
  };
};

console.log(JSON.stringify({ m: await every('m') }));
