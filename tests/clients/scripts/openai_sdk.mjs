// The official OpenAI SDK, unmodified except for base URL and key. One scenario a run: JSON in, JSON out.
import OpenAI from 'openai';
import { readFileSync } from 'node:fs';

const job = JSON.parse(readFileSync(0, 'utf8'));
const client = new OpenAI({ baseURL: `${job.url}/v1`, apiKey: job.token, maxRetries: job.max_retries ?? 0 });
const usage = (of) => of && { input: of.prompt_tokens, output: of.completion_tokens };

const scenarios = {
  async chat() {
    const answer = await client.chat.completions.create(job.arguments);
    const { message, finish_reason } = answer.choices[0];
    const calls = (message.tool_calls ?? []).map((c) => ({ name: c.function.name, arguments: c.function.arguments }));
    return { text: message.content, finish: finish_reason, calls, usage: usage(answer.usage) };
  },
  async stream() {
    const result = { text: '', finish: null, usage: null, chunks: 0, calls: [] };
    for await (const chunk of await client.chat.completions.create({ ...job.arguments, stream: true })) {
      result.chunks += 1;
      result.usage = usage(chunk.usage) ?? result.usage;
      for (const choice of chunk.choices) {
        result.text += choice.delta.content ?? '';
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
  async embed() {
    const answer = await client.embeddings.create(job.arguments);
    return { dimensions: answer.data[0].embedding.length, count: answer.data.length };
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
  if (!(error instanceof OpenAI.APIError)) throw error;
  result = { error: error.constructor.name, status: error.status, code: error.code, message: error.message, request_id: error.requestID };
}
console.log(JSON.stringify(result));
