// A chat with each of the official SDKs, bound to a key that never leaves this process.
//
// npm install openai @anthropic-ai/sdk
// VOUCHGATE_URL=http://127.0.0.1:8080 CLIENT_ID=batch-jobs CLIENT_SECRET=... MODEL=vouchgate/echo node chat.mjs
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { DPoP } from './dpop.mjs';

const { VOUCHGATE_URL: url, CLIENT_ID, CLIENT_SECRET, MODEL: model } = process.env;
const dpop = await DPoP.create();

// The token endpoint binds the token to the key it sees a proof of.
const body = new URLSearchParams({ grant_type: 'client_credentials', client_id: CLIENT_ID, client_secret: CLIENT_SECRET });
const answer = await (await dpop.fetch(`${url}/oauth/token`, { method: 'POST', body })).json();
if (answer.token_type !== 'DPoP') throw new Error(JSON.stringify(answer));
dpop.token = answer.access_token;

const messages = [{ role: 'user', content: 'Hello from a bound token' }];

const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'unused', fetch: dpop.fetch });
console.log((await openai.chat.completions.create({ model, messages })).choices[0].message.content);
for await (const chunk of await openai.chat.completions.create({ model, messages, stream: true })) {
  process.stdout.write(chunk.choices[0]?.delta.content ?? '');
}
console.log();

const anthropic = new Anthropic({ baseURL: url, authToken: 'unused', apiKey: null, fetch: dpop.fetch });
console.log((await anthropic.messages.create({ model, max_tokens: 1000, messages })).content[0].text);
for await (const event of anthropic.messages.stream({ model, max_tokens: 1000, messages })) {
  if (event.type === 'content_block_delta' && event.delta.type === 'text_delta') process.stdout.write(event.delta.text);
}
console.log();
