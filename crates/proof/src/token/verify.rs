//! From the text of a token to a [`VerifiedToken`], in the order of what it costs.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use base::{Name, Timestamp};
use serde_json::Value;

use super::cache::{Key, Refused, Remembered, TokenCache};
use super::{CacheLimits, ClaimProblem, IssuerRules, KeySource, RulesError, TokenError, VerifiedToken, claims};
use crate::jose::{self, Compact, JoseError, JsonObject, Lookup, MAX_TOKEN_LEN, SignatureError, VerifyingKey};

/// An issuer: its rules and its keys.
pub struct Issuer {
    rules: IssuerRules,
    keys: Arc<dyn KeySource>,
}

impl Issuer {
    /// An issuer whose tokens follow `rules` and verify with `keys`.
    pub fn new(rules: IssuerRules, keys: Arc<dyn KeySource>) -> Self {
        Self { rules, keys }
    }

    /// Its rules.
    pub fn rules(&self) -> &IssuerRules {
        &self.rules
    }

    /// Whether it has keys to verify with now.
    pub fn has_keys(&self) -> bool {
        self.keys.keys().is_some()
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// Every issuer whose tokens are accepted, and the verdicts reached so far.
pub struct Issuers {
    list: Vec<Issuer>,
    by_iss: HashMap<String, usize>,
    /// The one whose tokens may come without `iss`.
    without_iss: Option<usize>,
    cache: Arc<TokenCache>,
    generation: u64,
}

impl Issuers {
    /// These issuers, with a cache of their own. `generation` is the configuration's: it is part of every cache key.
    pub fn new(issuers: Vec<Issuer>, limits: CacheLimits, generation: u64) -> Result<Self, RulesError> {
        Self::with_cache(issuers, Arc::new(TokenCache::new(limits)), generation)
    }

    /// The issuers of a newer configuration. They share this one's cache, so that a reload does not double its memory,
    /// but none of its verdicts: `generation` must not have been used before.
    pub fn renew(&self, issuers: Vec<Issuer>, generation: u64) -> Result<Self, RulesError> {
        Self::with_cache(issuers, Arc::clone(&self.cache), generation)
    }

    fn with_cache(issuers: Vec<Issuer>, cache: Arc<TokenCache>, generation: u64) -> Result<Self, RulesError> {
        let mut by_iss = HashMap::new();
        let mut by_name = HashMap::new();
        let mut without_iss: Option<(usize, &Name)> = None;
        for (index, issuer) in issuers.iter().enumerate() {
            let rules = &issuer.rules;
            rules.check()?;
            if by_name.insert(&rules.name, index).is_some() {
                return Err(RulesError::SameName(rules.name.clone()));
            }
            let name = &rules.name;
            match &rules.issuer {
                Some(iss) => {
                    if let Some((_, other)) = by_iss.insert(iss.clone(), (index, name)) {
                        return Err(RulesError::SameIssuer(other.clone(), name.clone()));
                    }
                }
                None => {
                    if let Some((_, other)) = without_iss.replace((index, name)) {
                        return Err(RulesError::TwoWithoutIssuer(other.clone(), name.clone()));
                    }
                }
            }
        }
        let by_iss = by_iss.into_iter().map(|(iss, (index, _))| (iss, index)).collect();
        let without_iss = without_iss.map(|(index, _)| index);
        Ok(Self { list: issuers, by_iss, without_iss, cache, generation })
    }

    /// Verify a token, or find that it was verified before and still holds at `now`.
    ///
    /// After [`TokenError::UnknownKey`] or [`TokenError::KeysUnavailable`] the caller may have the issuer's keys fetched
    /// and ask once more.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Arc<VerifiedToken>, TokenError> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(JoseError::TooLong.into());
        }
        let hash = jose::sha256(token.as_bytes());
        let key = Key::new(hash, self.generation);
        self.known(&key, now).unwrap_or_else(|| self.verify_anew(token, key, hash, now))
    }

    /// What [`Issuers::verify`] would say without verifying a signature: nothing, if it would have to. For callers who bound
    /// how often that happens.
    pub fn recall(&self, token: &str, now: Timestamp) -> Option<Result<Arc<VerifiedToken>, TokenError>> {
        if token.len() > MAX_TOKEN_LEN {
            return Some(Err(JoseError::TooLong.into()));
        }
        self.known(&Key::new(jose::sha256(token.as_bytes()), self.generation), now)
    }

    /// The verdict reached before, if it still holds.
    fn known(&self, key: &Key, now: Timestamp) -> Option<Result<Arc<VerifiedToken>, TokenError>> {
        if let Some(known) = self.cache.verified(key) {
            let verdict = self.recheck(&known, now);
            if verdict.is_none() {
                self.cache.forget(key);
            }
            return verdict.map(|verdict| verdict.map(|()| Arc::clone(&known.token)));
        }
        let refused = self.cache.refused(key)?;
        let holds = refused.is_fresh(now)
            && self.list.get(refused.issuer).is_some_and(|issuer| issuer.keys.generation() == refused.keys);
        holds.then_some(Err(refused.error))
    }

    /// The issuers.
    pub fn issuers(&self) -> &[Issuer] {
        &self.list
    }

    /// Verified tokens remembered, and their estimated bytes.
    pub fn cache_size(&self) -> (usize, u64) {
        self.cache.size()
    }

    /// What a remembered token is worth now: its verdict, or nothing when the signature must be verified again.
    fn recheck(&self, known: &Remembered, now: Timestamp) -> Option<Result<(), TokenError>> {
        let issuer = self.list.get(known.issuer)?;
        let token = &known.token;
        let generation = issuer.keys.generation();
        if known.keys() != generation {
            // Rotation: the verdict outlives a new set only if its key does.
            let set = issuer.keys.keys()?;
            if !set.holds(&token.key_thumbprint, token.kid.as_deref()) {
                return None;
            }
            known.seen_in(generation);
        }
        let timely = claims::check_time(token.expires_at, token.not_before, issuer.rules.leeway, now);
        if timely.is_ok() && !known.is_fresh(now) {
            return None;
        }
        Some(timely)
    }

    fn verify_anew(
        &self,
        token: &str,
        key: Key,
        hash: [u8; 32],
        now: Timestamp,
    ) -> Result<Arc<VerifiedToken>, TokenError> {
        let compact = jose::parse_compact(token)?;
        let claims = compact.claims()?;
        let index = self.select(&claims)?;
        let issuer = self.list.get(index).ok_or(TokenError::UnknownIssuer)?;
        // Read before the keys: if they change in between, the verdict looks older than it is and is looked at again.
        let generation = issuer.keys.generation();
        match issuer.accept(&compact, claims, hash, now) {
            Ok(token) => {
                let token = Arc::new(token);
                self.cache.remember(key, Remembered::new(Arc::clone(&token), index, now, generation));
                Ok(token)
            }
            Err(error) => {
                if is_lasting(&error) {
                    self.cache.refuse(key, Refused::new(error.clone(), index, generation, now));
                }
                Err(error)
            }
        }
    }

    /// The issuer a token says it is from: by exact `iss`, which nobody has vouched for yet.
    fn select(&self, claims: &JsonObject) -> Result<usize, TokenError> {
        let index = match claims.get("iss") {
            Some(Value::String(iss)) => self.by_iss.get(iss.as_str()).copied(),
            Some(_) => return Err(TokenError::Claim { claim: "iss", problem: ClaimProblem::Malformed }),
            None => self.without_iss,
        };
        index.ok_or(TokenError::UnknownIssuer)
    }
}

impl fmt::Debug for Issuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuers").field("issuers", &self.list).finish_non_exhaustive()
    }
}

/// Whether the same bytes will be refused for the next seconds too, whatever is fetched, so that a signature need not
/// be verified for each repetition.
fn is_lasting(error: &TokenError) -> bool {
    matches!(
        error,
        TokenError::BadSignature
            | TokenError::NotAnAccessToken
            | TokenError::Claim { .. }
            | TokenError::WrongAudience
            | TokenError::Expired
            | TokenError::UnsupportedConfirmation
    )
}

impl Issuer {
    /// Check signature and claims of a token that says it is this issuer's.
    fn accept(
        &self,
        compact: &Compact<'_>,
        claims: JsonObject,
        token_hash: [u8; 32],
        now: Timestamp,
    ) -> Result<VerifiedToken, TokenError> {
        let rules = &self.rules;
        claims::check_typ(&compact.header, rules)?;
        let key = self.key(compact)?;
        let signed = compact.signing_input.as_bytes();
        key.verify(compact.header.alg, signed, &compact.signature).map_err(|error| match error {
            SignatureError::WrongAlg => TokenError::WrongAlg,
            SignatureError::Invalid => TokenError::BadSignature,
        })?;
        let checked = claims::check(&compact.header, &claims, rules, now)?;
        Ok(VerifiedToken {
            issuer: rules.name.clone(),
            iss: rules.issuer.clone().unwrap_or_default(),
            subject: checked.subject.into(),
            client_id: checked.client_id.map(Into::into),
            scopes: checked.scopes,
            groups: checked.groups,
            expires_at: checked.expires_at,
            not_before: checked.not_before,
            issued_at: checked.issued_at,
            jti: checked.jti,
            kid: key.kid().map(str::to_owned),
            key_thumbprint: *key.thumbprint(),
            confirmation: checked.confirmation,
            token_hash,
            claims,
            claims_len: compact.payload.len(),
        })
    }

    /// The key for a token: from this issuer's own set, by exact `kid`, and only for the one algorithm it is bound to.
    fn key(&self, compact: &Compact<'_>) -> Result<Arc<VerifyingKey>, TokenError> {
        let allowed = &self.rules.algorithms;
        let name = || self.rules.name.clone();
        let alg = compact.header.alg;
        if !allowed.contains(&alg) {
            return Err(TokenError::AlgNotAllowed { issuer: name() });
        }
        let set = self.keys.keys().ok_or_else(|| TokenError::KeysUnavailable { issuer: name() })?;
        match set.find(compact.header.kid.as_deref(), alg, allowed) {
            Lookup::Found(key) if key.bind(allowed) == Some(alg) => Ok(Arc::clone(key)),
            Lookup::Found(_) => Err(TokenError::WrongAlg),
            Lookup::Unknown => Err(TokenError::UnknownKey { issuer: name() }),
            Lookup::Ambiguous => Err(TokenError::AmbiguousKey),
        }
    }
}
