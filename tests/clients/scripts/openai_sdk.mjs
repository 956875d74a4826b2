// The official OpenAI SDK, unmodified except for base URL and key. A job, or the steps of one: JSON in, JSON out.
import OpenAI, { toFile } from 'openai';
import { readFileSync } from 'node:fs';

const job = JSON.parse(readFileSync(0, 'utf8'));
const client = new OpenAI({ baseURL: `${job.url}/v1`, apiKey: job.token, maxRetries: job.max_retries ?? 0 });
const usage = (of) => of && { input: of.prompt_tokens, output: of.completion_tokens };
const called = ({ type, function: f, custom }) =>
  type === 'custom'
    ? { name: custom.name, arguments: JSON.stringify({ input: custom.input }) }
    : { name: f.name, arguments: f.arguments };

const scenarios = {
  async chat(args) {
    const answer = await client.chat.completions.create(args);
    const { message, finish_reason } = answer.choices[0];
    const calls = (message.tool_calls ?? []).map(called);
    return { text: (message.content ?? '') + (message.refusal ?? ''), finish: finish_reason, calls, usage: usage(answer.usage) };
  },
  async stream(args) {
    const result = { text: '', finish: null, usage: null, chunks: 0, calls: [] };
    for await (const chunk of await client.chat.completions.create({ ...args, stream: true })) {
      result.chunks += 1;
      result.usage = usage(chunk.usage) ?? result.usage;
      for (const choice of chunk.choices) {
        if (choice.index > 0) continue;
        result.text += (choice.delta.content ?? '') + (choice.delta.refusal ?? '');
        result.finish = choice.finish_reason ?? result.finish;
        for (const call of choice.delta.tool_calls ?? []) {
          const known = (result.calls[call.index] ??= { name: '', arguments: '' });
          known.name += call.function?.name ?? '';
          known.arguments += call.function?.arguments ?? '';
        }
      }
    }
    return result;
  },
  async embed(args) {
    const answer = await client.embeddings.create(args);
    return { dimensions: answer.data[0].embedding.length, count: answer.data.length };
  },
  async complete(args) {
    const { choices } = await client.completions.create(args);
    return { text: choices[0].text, count: choices.length };
  },
  async complete_stream(args) {
    let text = '';
    for await (const { choices } of await client.completions.create({ ...args, stream: true })) {
      text += choices.map((choice) => choice.text).join('');
    }
    return { text };
  },
  async moderate(args) {
    return { flagged: (await client.moderations.create(args)).results.map((result) => result.flagged) };
  },
  async image(args) {
    const { data } = await client.images.generate(args);
    return { count: data.length, url: data[0].url ?? null, b64: data[0].b64_json ?? null };
  },
  async speak(args) {
    return { bytes: (await (await client.audio.speech.create(args)).arrayBuffer()).byteLength };
  },
  async transcribe(args) {
    const file = await toFile(Buffer.from('RIFF\0\r\n--WAVE'), 'a.wav');
    return { text: (await client.audio.transcriptions.create({ ...args, file })).text };
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
    if (!(error instanceof OpenAI.APIError)) throw error;
    const { status, code, message, requestID: request_id } = error;
    return { error: error.constructor.name, status, code, message, request_id, retry_after: error.headers?.get('retry-after') };
  }
};

const results = [];
for (const step of job.steps ?? [job]) results.push(await run(step));
console.log(JSON.stringify(job.steps ? { results } : results[0]));
