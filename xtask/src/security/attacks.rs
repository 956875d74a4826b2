//! The catalogue of attacks, and what stops each.

/// An attack on tokens and proofs.
pub(super) struct Attack {
    /// Its number: `A-7`. Its tests are called `a_07_...`.
    pub(super) number: u8,
    /// What is tried.
    pub(super) name: &'static str,
    /// What stops it.
    pub(super) stopped_by: &'static str,
}

const fn attack(number: u8, name: &'static str, stopped_by: &'static str) -> Attack {
    Attack { number, name, stopped_by }
}

/// All of them.
pub(super) const ATTACKS: [Attack; 48] = [
    attack(
        1,
        "No signature at all (`alg: none`)",
        "Algorithms are a list per issuer of what is accepted. `none` is on no list and cannot be put on one, in whatever \
         spelling or JSON type.",
    ),
    attack(
        2,
        "A signature cut off, altered or taken from another token",
        "A token has exactly three parts. The signature is verified over the bytes as received before anything the token \
         says is believed.",
    ),
    attack(
        3,
        "A public key used as an HMAC secret",
        "HMAC is accepted only from an issuer with `hs256_secret`, which has no public keys, and a key is never used with \
         an algorithm of another kind.",
    ),
    attack(
        4,
        "Another algorithm with the right key",
        "The algorithm has to be on the issuer's list, fit the key's type and curve, and be the one the key names, if it \
         names one.",
    ),
    attack(
        5,
        "A key of the attacker's own in the header (`jwk`)",
        "Keys come from the issuer's configured set only. A header may name one by `kid`; it cannot bring one.",
    ),
    attack(
        6,
        "A header that says where the key is (`jku`, `x5u`)",
        "Neither is read. The only addresses keys are fetched from stand in the configuration or in the metadata of the \
         configured issuer.",
    ),
    attack(
        7,
        "A certificate in the header (`x5c`, `x5t`)",
        "Neither is read. No certificate in a token means anything.",
    ),
    attack(
        8,
        "Paths, queries and commands in `kid`",
        "`kid` is a text that is compared with the key ids of the issuer's own set in memory. It never becomes part of a \
         path, a query or a command; any other JSON type is refused.",
    ),
    attack(
        9,
        "Critical extensions (`crit`)",
        "None is understood here, so a header with `crit` is refused, whatever it lists.",
    ),
    attack(10, "A payload that is not encoded (`b64: false`)", "A header with `b64` is refused."),
    attack(
        11,
        "Signatures of zeroes and other special values",
        "An ECDSA signature has the exact length of its curve, and both numbers lie between 1 and the order of the curve \
         less 1. DER is not accepted.",
    ),
    attack(
        12,
        "A second valid signature made from the first",
        "It is no second identity: replay, single use and revocation go by what was signed (`jti`, key, claims), never by \
         the bytes of the signature.",
    ),
    attack(
        13,
        "Ed25519 keys of small order and other spellings of a signature",
        "Such keys are refused when they are read, and a signature has one form (RFC 8032 section 5.1.7).",
    ),
    attack(
        14,
        "Guessing the shared secret",
        "A secret that is short, known from tutorials or made of words is refused, and its issuer with it: none of its \
         tokens is accepted.",
    ),
    attack(
        15,
        "Weak RSA keys",
        "RSA keys have 2048 to 8192 bits, an odd exponent from 65537, no small factor and not the fingerprint of \
         CVE-2017-15361.",
    ),
    attack(
        16,
        "The same member twice in a JSON object",
        "Refused at every depth, in headers, claims and key sets, after escapes are resolved.",
    ),
    attack(
        17,
        "Claims of another JSON type",
        "Each claim that is read has one type (`aud` two). Another type is a refusal, never a default.",
    ),
    attack(
        18,
        "Expired, future and timeless tokens",
        "`exp` is required. `exp`, `nbf` and `iat` are compared with the clock on every request, also for tokens that were \
         verified before; clocks may differ by 60 seconds at most.",
    ),
    attack(
        19,
        "A token for somebody else",
        "`aud` has to hold one of the configured audiences, byte for byte: no prefix, no case, no slash is forgiven.",
    ),
    attack(
        20,
        "One issuer speaks for another",
        "An issuer is found by its exact `iss` and has keys of its own. The same `kid` in another issuer's set does not \
         matter.",
    ),
    attack(
        21,
        "The same subject from two issuers",
        "A caller is the pair of issuer and subject everywhere: policies, limits, cached verdicts, revocation, records.",
    ),
    attack(
        22,
        "Another kind of token",
        "Access tokens, ID tokens, proofs, client assertions and security events each have their type and their required \
         claims, and none is accepted in the place of another.",
    ),
    attack(
        23,
        "Encrypted, nested and JSON forms",
        "Only a compact JWS is a token. Headers with `enc` or `zip`, five parts, JSON forms and tokens within tokens are \
         refused before anything is decoded or inflated.",
    ),
    attack(
        24,
        "Other encodings of the same token",
        "A token has one spelling: canonical base64url without padding, UTF-8 without byte order mark, no lone surrogates.",
    ),
    attack(
        25,
        "Exhausting memory or time",
        "The length of a credential, the depth of its JSON and the number of values have limits that are checked before \
         anything is built. Failed verifications are counted per address.",
    ),
    attack(
        26,
        "Malformed JSON",
        "JSON is read strictly and whole, in headers, claims and key sets. What is not JSON is a refusal, never an error of \
         ours.",
    ),
    attack(
        27,
        "A flood of unknown key ids",
        "An unknown key id makes one fetch per issuer and 30 seconds, claimed before the fetch and whatever comes of it. \
         Tokens with known keys do not wait for it.",
    ),
    attack(
        28,
        "Poisoned key sets",
        "A set with a private or shared key, or with one key id twice, is refused whole; a key that cannot be used is left \
         out alone. Fetches are HTTPS, small, timed, follow no redirect, and the last good set stays in use.",
    ),
    attack(
        29,
        "Keys that change",
        "A new key is fetched with the first token that names it. A key that left the set takes with it the verdicts that \
         were remembered under it.",
    ),
    attack(
        30,
        "A token in the query, a form, a cookie or the body",
        "Tokens are read from the credential headers only. One in the query beside one in a header is 400.",
    ),
    attack(
        31,
        "Several or malformed credentials",
        "A request has one credential, with one scheme and one value. Anything else is 400, and nothing is tried in turn.",
    ),
    attack(
        32,
        "Smuggled headers",
        "Framing that two readers could read differently is refused before it is parsed. Identity headers of clients are \
         never passed on, nor names with `_`, nor what `Connection` names.",
    ),
    attack(
        33,
        "Proofs that are not quite right",
        "Each check of RFC 9449 section 4.3 is made on every request: one header, one token of type `dpop+jwt`, an allowed \
         asymmetric algorithm, a public key only, method, URL (the configured ones, never `Host`), time, hash of the access \
         token, the key it is bound to. A request signature (RFC 9421) has to cover method, URL, credential and the digest \
         of the body, and names its time, nonce and key.",
    ),
    attack(
        34,
        "A bound token without its proof",
        "A token that is bound is refused without proof on every route, whatever the policy; one that is not bound is \
         refused with the DPoP scheme. `who.bound` refuses tokens that are bound to nothing.",
    ),
    attack(
        35,
        "A proof or signed request sent again",
        "Key, method, normalised URL and `jti` are remembered for as long as a proof lives, exactly, and only after \
         everything else was checked. When there is no room, proofs are refused. After a start only proofs with a nonce \
         made since then count.",
    ),
    attack(
        36,
        "Proofs made beforehand, with old or foreign nonces",
        "A nonce is a keyed hash of the time and the client's key, under a key made at start. Those of the current and the \
         previous five minutes are accepted.",
    ),
    attack(
        37,
        "A token bound to another certificate",
        "The token's thumbprint is compared with the certificate of the TLS connection, whose key the handshake proved. A \
         `Client-Cert` header is believed from trusted proxies only, and removed from everybody else's requests.",
    ),
    attack(
        38,
        "A bearer token used twice",
        "Where a policy says `single_use`, issuer and `jti` are remembered durably before the request goes on. Of any \
         number at once, one goes on.",
    ),
    attack(
        39,
        "A token that was revoked",
        "Revocation is durable before it is answered and looked up on every request, also for tokens verified before: by \
         token, subject, client, device, session, issuer, key or time. Policies may have answers under way cut.",
    ),
    attack(
        40,
        "Tokens that share parts",
        "Verdicts are remembered by the SHA-256 of the whole token and the issuer's configuration, never by a part or by \
         `jti`.",
    ),
    attack(
        41,
        "Garbage that falls through to nobody",
        "Each way to authenticate says not asked, verified or failed. The first that does not say not asked decides; a \
         failure never becomes an anonymous caller.",
    ),
    attack(
        42,
        "Remembered verdicts and time",
        "Time, revocation and binding are checked on every request. A verdict never outlives the token, and refusals of \
         unknown keys are not remembered.",
    ),
    attack(
        43,
        "Stolen refresh tokens",
        "A refresh token is used once, by its client, with its key. Its use after it was replaced ends the whole family; a \
         short grace gives clients that ask twice the same successor. Scopes can only become fewer.",
    ),
    attack(
        44,
        "Refusals that tell something",
        "Answers and logs hold fixed words, never bytes of a token. An unknown key and a wrong signature, an unknown client \
         and a wrong secret look alike.",
    ),
    attack(
        45,
        "An issuer that widens its algorithms",
        "The accepted algorithms are those of our configuration. What a key set or metadata says can only make them fewer.",
    ),
    attack(
        46,
        "Credentials that cross over",
        "The caller's credential and its proofs are removed before anything goes to a provider; a provider's key is opened \
         in one place, for the origin it is bound to, and is in no answer, error or log.",
    ),
    attack(47, "Tokens that live too long", "`exp` is required, and `max_lifetime` limits how far it lies from `iat`."),
    attack(48, "Scopes that look alike", "Scopes are split at spaces and compared whole, byte by byte."),
];
