// Every case with Google's official SDK, unmodified except for base URL and key. A job in, JSON out.
import { GoogleGenAI } from '@google/genai';
import { readFileSync } from 'node:fs';

const job = JSON.parse(readFileSync(0, 'utf8'));
const connect = (attempts) =>
  new GoogleGenAI({ apiKey: job.token, httpOptions: { baseUrl: job.url, retryOptions: { attempts } } });
const client = connect(1);
const tools = [{ functionDeclarations: [{ name: 'get_weather', description: 'The weather in a city', parametersJsonSchema: job.parameters }] }];
const responseJsonSchema = {
  type: 'object',
  properties: { city: { type: 'string' }, degrees: { type: 'integer' } },
  required: ['city', 'degrees'],
};
const used = ({ usageMetadata }) => ({ input: usageMetadata.promptTokenCount, output: usageMetadata.candidatesTokenCount });
const ask = (model, contents, config = {}) => client.models.generateContent({ model, contents, config });

const loop = async (model, streamed) => {
  const contents = [{ role: 'user', parts: [{ text: 'How is the weather?' }] }];
  const calls = [];
  for (;;) {
    const asked = { model, contents, config: { tools } };
    const parts = [];
    if (streamed) {
      for await (const chunk of await client.models.generateContentStream(asked)) parts.push(...(chunk.candidates?.[0]?.content?.parts ?? []));
    } else {
      parts.push(...(await client.models.generateContent(asked)).candidates[0].content.parts);
    }
    const wanted = parts.flatMap((part) => part.functionCall ?? []);
    if (!wanted.length) return { calls, text: parts.map((part) => part.text ?? '').join('') };
    contents.push({ role: 'model', parts });
    contents.push({
      role: 'user',
      parts: wanted.map(({ id, name, args }) => {
        calls.push([name, args]);
        return { functionResponse: { id, name, response: { result: job.weather[args.city] } } };
      }),
    });
  }
};

const stream = async (model) => {
  const seen = { text: '', pieces: 0 };
  for await (const chunk of await client.models.generateContentStream({ model, contents: 'Hello' })) {
    seen.text += chunk.text ?? '';
    seen.pieces += chunk.text ? 1 : 0;
    if (chunk.usageMetadata) Object.assign(seen, used(chunk));
  }
  return seen;
};

const errors = async (model) => {
  const seen = [];
  for (const status of job.statuses) {
    try {
      await ask(model, `Fail with ${status} please`);
    } catch (error) {
      seen.push({ class: error.constructor.name, status: error.status, message: error.message });
    }
  }
  return seen;
};

const every = async (model) => {
  const hello = await ask(model, 'Hello');
  const picture = { inlineData: { mimeType: 'image/png', data: job.image } };
  const report = await ask(model, 'Please report.', { responseMimeType: 'application/json', responseJsonSchema });
  const again = await connect(3).models.generateContent({ model, contents: `Fail once for google in node at ${model}` });
  return {
    text: { text: hello.text, ...used(hello) },
    stream: await stream(model),
    tools: await loop(model, false),
    stream_tools: await loop(model, true),
    image: { text: (await ask(model, [{ role: 'user', parts: [picture, { text: 'What is this?' }] }])).text },
    report: { value: JSON.parse(report.text) },
    errors: await errors(model),
    retry: { text: again.text },
  };
};

const results = {};
for (const model of job.models) results[model] = await every(model);
console.log(JSON.stringify(results));
