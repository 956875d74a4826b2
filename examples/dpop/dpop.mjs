// DPoP (RFC 9449) for any SDK that takes a `fetch` of your own, OpenAI's and Anthropic's among them.
const b64 = (bytes) => Buffer.from(bytes).toString('base64url');
const sha256 = (text) => crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));

/** Proves with every request that it comes from the holder of the key the token is bound to. */
export class DPoP {
  static async create() {
    const pair = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign', 'verify']);
    const { kty, crv, x, y } = await crypto.subtle.exportKey('jwk', pair.publicKey);
    return Object.assign(new DPoP(), { key: pair.privateKey, jwk: { kty, crv, x, y } });
  }

  async proof(method, url) {
    const claims = { jti: crypto.randomUUID(), htm: method, htu: url.origin + url.pathname, iat: Math.floor(Date.now() / 1000), nonce: this.nonce };
    if (this.token) claims.ath = b64(await sha256(this.token));
    const input = [{ typ: 'dpop+jwt', alg: 'ES256', jwk: this.jwk }, claims].map((part) => b64(JSON.stringify(part))).join('.');
    const signature = await crypto.subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, this.key, Buffer.from(input));
    return `${input}.${b64(signature)}`;
  }

  fetch = async (url, init = {}) => {
    const headers = new Headers(init.headers);
    headers.delete('x-api-key'); // what Anthropic's SDK may send beside
    for (let again = false; ; again = true) {
      const used = this.nonce;
      headers.set('dpop', await this.proof(init.method ?? 'GET', new URL(url)));
      if (this.token) headers.set('authorization', `DPoP ${this.token}`);
      const response = await fetch(url, { ...init, headers });
      this.nonce = response.headers.get('dpop-nonce') ?? used;
      // Anything but "use this nonce" (use_dpop_nonce) is the answer.
      if (again || ![400, 401].includes(response.status) || this.nonce === used) return response;
      await response.body?.cancel();
    }
  };
}
