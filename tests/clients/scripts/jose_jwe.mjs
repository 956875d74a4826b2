// npm jose as the other end of what is sealed to installations (RFC 7518 section 4.6). JSON in, JSON out.
import { CompactEncrypt, compactDecrypt, exportJWK, generateKeyPair, importJWK } from 'jose';
import { readFileSync } from 'node:fs';

const job = JSON.parse(readFileSync(0, 'utf8'));
const bytes = (text) => Uint8Array.from(Buffer.from(text, 'base64url'));
const done = { keys: [], opened: [], sealed: [] };
for (const crv of job.make ?? []) {
  const { privateKey } = await generateKeyPair('ECDH-ES', { crv, extractable: true });
  done.keys.push(await exportJWK(privateKey));
}
for (const { jwk, jwe } of job.open ?? []) {
  try {
    const { plaintext, protectedHeader } = await compactDecrypt(jwe, await importJWK(jwk, 'ECDH-ES'));
    done.opened.push({ text: new TextDecoder().decode(plaintext), header: protectedHeader });
  } catch (error) {
    done.opened.push({ error: error.code ?? String(error) });
  }
}
for (const { jwk, apu, apv, text } of job.seal ?? []) {
  const sealing = new CompactEncrypt(new TextEncoder().encode(text));
  sealing.setProtectedHeader({ alg: 'ECDH-ES', enc: 'A256GCM' });
  sealing.setKeyManagementParameters({ apu: bytes(apu), apv: bytes(apv) });
  done.sealed.push(await sealing.encrypt(await importJWK(jwk, 'ECDH-ES')));
}
console.log(JSON.stringify(done));
