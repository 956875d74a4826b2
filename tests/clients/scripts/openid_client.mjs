// openid-client, unmodified, through every flow with DPoP. A job in JSON in, what came of each step in JSON out.
import * as client from 'openid-client';
import { importPKCS8 } from 'jose';
import { readFileSync } from 'node:fs';
import { walk } from './browser.mjs';

const job = JSON.parse(readFileSync(0, 'utf8'));
const key = await importPKCS8(job.key, 'ES256', { extractable: false });
const config = await client.discovery(new URL(job.url), job.client, undefined, client.PrivateKeyJwt(key), {
  execute: [client.allowInsecureRequests],
  algorithm: job.algorithm,
});
// It repeats a request by itself when the server asks for its nonce.
const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair(job.alg));
const told = {};

async function ask(token) {
  const url = new URL('/v1/chat/completions', job.url);
  const body = JSON.stringify({ model: 'vouchgate/echo', messages: [{ role: 'user', content: 'Hello' }] });
  const headers = new Headers({ 'content-type': 'application/json' });
  const answer = await client.fetchProtectedResource(config, token, url, 'POST', body, headers, { DPoP });
  return (await answer.json()).choices[0].message.content;
}

/** The error's code, where a request has to fail. */
async function refused(request) {
  try {
    await request();
  } catch (error) {
    return error.error ?? error.cause?.[0]?.parameters?.error ?? String(error);
  }
  return null;
}

const granted = await client.clientCredentialsGrant(config, { scope: 'chat' }, { DPoP });
told.client_credentials = { type: granted.token_type, text: await ask(granted.access_token) };

const { active, client_id, token_type } = await client.tokenIntrospection(config, granted.access_token);
told.introspection = { active, client_id, token_type };
await client.tokenRevocation(config, granted.access_token);
const after = await client.tokenIntrospection(config, granted.access_token);
told.revocation = { after, refused: await refused(() => ask(granted.access_token)) };

const pkceCodeVerifier = client.randomPKCECodeVerifier();
const [expectedState, expectedNonce] = [client.randomState(), client.randomNonce()];
const parameters = {
  redirect_uri: job.redirect_uri,
  scope: 'openid chat',
  code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier),
  code_challenge_method: 'S256',
  state: expectedState,
  nonce: expectedNonce,
};
const checks = { pkceCodeVerifier, expectedState, expectedNonce, idTokenExpected: true };
const start = await client.buildAuthorizationUrlWithPAR(config, parameters, { DPoP });
told.par = start.searchParams.has('request_uri');
const signedIn = await client.authorizationCodeGrant(config, await walk(start, job.redirect_uri), checks, undefined, { DPoP });
told.code = { type: signedIn.token_type, claims: signedIn.claims(), text: await ask(signedIn.access_token) };

// The same without PAR: everything in the address.
const plain = client.buildAuthorizationUrl(config, { ...parameters, dpop_jkt: await DPoP.calculateThumbprint() });
const second = await client.authorizationCodeGrant(config, await walk(plain, job.redirect_uri), checks, undefined, { DPoP });
told.plain = { type: second.token_type, text: await ask(second.access_token) };

const refreshed = await client.refreshTokenGrant(config, signedIn.refresh_token, undefined, { DPoP });
told.refresh = { rotated: refreshed.refresh_token !== signedIn.refresh_token, text: await ask(refreshed.access_token) };
await client.tokenRevocation(config, refreshed.refresh_token);
told.refresh.revoked = await refused(() => client.refreshTokenGrant(config, refreshed.refresh_token, undefined, { DPoP }));

const exchange = { subject_token: job.subject_token, subject_token_type: 'urn:ietf:params:oauth:token-type:access_token', scope: 'chat' };
const grant = 'urn:ietf:params:oauth:grant-type:token-exchange';
const exchanged = await client.genericGrantRequest(config, grant, exchange, { DPoP });
told.exchange = { type: exchanged.token_type, issued: exchanged.issued_token_type, text: await ask(exchanged.access_token) };

const device = await client.initiateDeviceAuthorization(config, { scope: 'chat' });
told.device = { code: device.user_code.length >= 8, page: device.verification_uri, interval: device.interval };
console.log(JSON.stringify(told));
