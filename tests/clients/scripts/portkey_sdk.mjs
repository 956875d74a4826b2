// Portkey's SDK, unmodified except for base URL and key. A job, or the steps of one: JSON in, JSON out.
import { Portkey } from 'portkey-ai';
import { readFileSync } from 'node:fs';

const job = JSON.parse(readFileSync(0, 'utf8'));
const client = new Portkey({ baseURL: `${job.url}/v1`, apiKey: job.token, provider: 'openai', maxRetries: 0 });

const scenarios = {
  async chat(args) {
    const answer = await client.chat.completions.create(args);
    const { message, finish_reason } = answer.choices[0];
    const calls = (message.tool_calls ?? []).map(({ function: f }) => ({ name: f.name, arguments: f.arguments }));
    return { text: message.content ?? '', finish: finish_reason, calls };
  },
  async stream(args) {
    const result = { text: '', chunks: 0 };
    for await (const chunk of await client.chat.completions.create({ ...args, stream: true })) {
      result.chunks += 1;
      for (const choice of chunk.choices) result.text += choice.delta.content ?? '';
    }
    return result;
  },
};

const results = [];
for (const step of job.steps) {
  try {
    results.push(await scenarios[step.scenario](step.arguments));
  } catch (error) {
    if (!error.status) throw error;
    results.push({ error: error.constructor.name, status: error.status, message: error.message });
  }
}
console.log(JSON.stringify({ results }));
