// oauth4webapi, unmodified, through every flow with DPoP. A job in JSON in, what came of each step in JSON out.
import * as oauth from 'oauth4webapi';
import { importPKCS8 } from 'jose';
import { readFileSync } from 'node:fs';
import { walk } from './browser.mjs';

const job = JSON.parse(readFileSync(0, 'utf8'));
const insecure = { [oauth.allowInsecureRequests]: true };
const issuer = new URL(job.url);
const client = { client_id: job.client };
const auth = oauth.PrivateKeyJwt(await importPKCS8(job.key, 'ES256', { extractable: false }));
const DPoP = oauth.DPoP(client, await oauth.generateKeyPair('ES256'));
const told = {};
let challenges = 0;

/** Once more when the server asks for its nonce, as the library's documentation says. */
async function again(request) {
  try {
    return await request();
  } catch (error) {
    if (!oauth.isDPoPNonceError(error)) throw error;
    challenges += 1;
    return await request();
  }
}

async function discovery(algorithm) {
  return oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm, ...insecure }));
}

async function ask(token) {
  const url = new URL('/v1/chat/completions', job.url);
  const body = JSON.stringify({ model: 'vouchgate/echo', messages: [{ role: 'user', content: 'Hello' }] });
  const headers = new Headers({ 'content-type': 'application/json' });
  const send = () => oauth.protectedResourceRequest(token, 'POST', url, headers, body, { DPoP, ...insecure });
  return (await (await again(send)).json()).choices[0].message.content;
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

const as = await discovery('oauth2');
told.oidc = (await discovery('oidc')).issuer === as.issuer;
const resource = await oauth.processResourceDiscoveryResponse(issuer, await oauth.resourceDiscoveryRequest(issuer, insecure));
told.resource = { servers: resource.authorization_servers, algs: resource.dpop_signing_alg_values_supported };

// client_credentials with private_key_jwt and DPoP
const granted = await again(async () => {
  const request = await oauth.clientCredentialsGrantRequest(as, client, auth, { scope: 'chat' }, { DPoP, ...insecure });
  return oauth.processClientCredentialsResponse(as, client, request);
});
told.client_credentials = { type: granted.token_type, text: await ask(granted.access_token), challenges };

const introspect = async (token) =>
  oauth.processIntrospectionResponse(as, client, await oauth.introspectionRequest(as, client, auth, token, insecure));
const { active, client_id, token_type, cnf } = await introspect(granted.access_token);
told.introspection = { active, client_id, token_type, bound: cnf?.jkt === (await DPoP.calculateThumbprint()) };

const revoke = async (token) =>
  oauth.processRevocationResponse(await oauth.revocationRequest(as, client, auth, token, insecure));
await revoke(granted.access_token);
told.revocation = { after: await introspect(granted.access_token), refused: await refused(() => ask(granted.access_token)) };

// PAR, then a code with PKCE, at the OpenID provider somebody signs in at
const code_verifier = oauth.generateRandomCodeVerifier();
const [state, nonce] = [oauth.generateRandomState(), oauth.generateRandomNonce()];
const pushed = await again(async () => {
  const parameters = {
    redirect_uri: job.redirect_uri,
    response_type: 'code',
    scope: 'openid chat',
    code_challenge: await oauth.calculatePKCECodeChallenge(code_verifier),
    code_challenge_method: 'S256',
    state,
    nonce,
  };
  const response = await oauth.pushedAuthorizationRequest(as, client, auth, parameters, { DPoP, ...insecure });
  return oauth.processPushedAuthorizationResponse(as, client, response);
});
const target = new URL(as.authorization_endpoint);
target.search = new URLSearchParams({ client_id: job.client, request_uri: pushed.request_uri });
const callback = oauth.validateAuthResponse(as, client, await walk(target, job.redirect_uri), state);
const exchangeCode = async () => {
  const response = await oauth.authorizationCodeGrantRequest(as, client, auth, callback, job.redirect_uri, code_verifier, { DPoP, ...insecure });
  return oauth.processAuthorizationCodeResponse(as, client, response, { expectedNonce: nonce, requireIdToken: true });
};
const signedIn = await again(exchangeCode);
told.code = { type: signedIn.token_type, claims: oauth.getValidatedIdTokenClaims(signedIn), text: await ask(signedIn.access_token) };

// Refresh, with rotation
const refresh = async (token) => {
  const response = await oauth.refreshTokenGrantRequest(as, client, auth, token, { DPoP, ...insecure });
  return oauth.processRefreshTokenResponse(as, client, response);
};
const refreshed = await again(() => refresh(signedIn.refresh_token));
told.refresh = { rotated: refreshed.refresh_token !== signedIn.refresh_token, text: await ask(refreshed.access_token) };
await revoke(refreshed.refresh_token);
told.refresh.revoked = await refused(() => refresh(refreshed.refresh_token));

// Token exchange
const exchanged = await again(async () => {
  const parameters = {
    subject_token: job.subject_token,
    subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
    scope: 'chat',
  };
  const grant = 'urn:ietf:params:oauth:grant-type:token-exchange';
  const response = await oauth.genericTokenEndpointRequest(as, client, auth, grant, parameters, { DPoP, ...insecure });
  return oauth.processGenericTokenEndpointResponse(as, client, response);
});
told.exchange = { type: exchanged.token_type, issued: exchanged.issued_token_type, text: await ask(exchanged.access_token) };

// A code is good once: its second use ends what came of the first.
told.code.again = await refused(exchangeCode);
console.log(JSON.stringify(told));
