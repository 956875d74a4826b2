// Every case with Vercel's AI SDK and its adapters, unmodified except for base URL and key. A job in, JSON out.
import { createAnthropic } from '@ai-sdk/anthropic';
import { createGoogleGenerativeAI } from '@ai-sdk/google';
import { createMistral } from '@ai-sdk/mistral';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, jsonSchema, Output, stepCountIs, streamText, tool } from 'ai';
import { readFileSync } from 'node:fs';

// Warnings about models it does not know go to standard output otherwise.
globalThis.AI_SDK_LOG_WARNINGS = false;

const job = JSON.parse(readFileSync(0, 'utf8'));
const settings = { apiKey: job.token };
const openai = `${job.url}/v1`;
const dialects = {
  openai: createOpenAI({ ...settings, baseURL: openai }).chat,
  anthropic: createAnthropic({ ...settings, baseURL: openai }),
  google: createGoogleGenerativeAI({ ...settings, baseURL: `${job.url}/v1beta` }),
  mistral: createMistral({ ...settings, baseURL: openai }),
  compatible: createOpenAICompatible({ ...settings, name: 'gate', baseURL: openai, includeUsage: true, supportsStructuredOutputs: true }),
};
const used = ({ inputTokens, outputTokens }) => ({ input: inputTokens, output: outputTokens });
const once = { maxRetries: 0 };
const schema = jsonSchema({
  type: 'object',
  properties: { city: { type: 'string' }, degrees: { type: 'integer' } },
  required: ['city', 'degrees'],
  additionalProperties: false,
});
const tools = {
  get_weather: tool({
    description: 'The weather in a city',
    inputSchema: jsonSchema(job.parameters),
    execute: async ({ city }) => job.weather[city],
  }),
};
const weather = { prompt: 'How is the weather?', tools, stopWhen: stepCountIs(5), ...once };
const calls = (steps) => steps.flatMap((step) => step.toolCalls.map((call) => [call.toolName, call.input]));

const errors = async (model) => {
  const seen = [];
  for (const status of job.statuses) {
    try {
      await generateText({ model, prompt: `Fail with ${status} please`, ...once });
    } catch (error) {
      seen.push({ class: error.name, status: error.statusCode, message: error.message });
    }
  }
  return seen;
};

const every = async (model, label) => {
  const hello = await generateText({ model, prompt: 'Hello', ...once });
  const streamed = streamText({ model, prompt: 'Hello', ...once });
  let [text, pieces] = ['', 0];
  for await (const piece of streamed.textStream) {
    text += piece;
    pieces += 1;
  }
  const looped = await generateText({ model, ...weather });
  const streaming = streamText({ model, ...weather });
  await streaming.consumeStream();
  const content = [{ type: 'text', text: 'What is this?' }, { type: 'image', image: Buffer.from(job.image, 'base64') }];
  // Anthropic's adapter makes a model call a function then, which not every model can be made to.
  const report = await generateText({ model, prompt: 'Please report.', output: Output.object({ schema }), ...once })
    .then(({ output }) => ({ value: output }), ({ statusCode }) => ({ refused: statusCode }));
  const again = await generateText({ model, prompt: `Fail once for ${label}`, maxRetries: 2 });
  return {
    text: { text: hello.text, ...used(hello.usage) },
    stream: { text, pieces, ...used(await streamed.usage) },
    tools: { calls: calls(looped.steps), text: looped.text },
    stream_tools: { calls: calls(await streaming.steps), text: await streaming.text },
    image: { text: (await generateText({ model, messages: [{ role: 'user', content }], ...once })).text },
    report,
    errors: await errors(model),
    retry: { text: again.text },
  };
};

const results = {};
for (const [dialect, chat] of Object.entries(dialects)) {
  for (const name of job.models) results[`${dialect} ${name}`] = await every(chat(name), `${dialect} ${name}`);
}
console.log(JSON.stringify(results));
