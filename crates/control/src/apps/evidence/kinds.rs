//! Each kind of evidence that can be judged here, without asking anybody.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use config::{EvidenceKind, KeyHardware};
use proof::attest::altcha::AltchaKey;
use proof::attest::android::{self, SecurityLevel};
use proof::attest::apple::{self, AssertionRules, AttestationRules, ClientData, Extensions, ReceiptRules};
use proof::attest::approov::{self, ApproovRules};
use proof::attest::enrolment::Given;
use proof::attest::play::{self, Binding, DEFAULT_MAX_AGE, PlayRules};
use proof::attest::status::StatusList;
use proof::attest::webauthn::{self, Registration, RelyingParty};
use proof::attest::{Level, Summary};
use proof::jose::{base64url_decode, base64url_encode};
use store::{OneTime, UseUp};

use super::super::in_force::PlayOpener;
use super::super::refusal::Refused;
use super::{Circumstances, Judged, refused};

/// How old a receipt may be when it arrives, as Apple asks for.
pub(in crate::apps) const NEW_RECEIPT: std::time::Duration = std::time::Duration::from_mins(5);

/// Judge evidence that needs nobody else. Costs up to a few milliseconds: not to be done on a thread that serves requests.
pub(in crate::apps) fn judge(given: &Given, by: &Circumstances) -> Result<Judged, Refused> {
    match given {
        Given::AppAttest { key_id, attestation, .. } => app_attest(key_id, attestation, by),
        Given::AndroidKey { chain, play_integrity } => android_key(chain, play_integrity.as_deref(), by),
        Given::Play { token } => {
            let summary = play_integrity(token, by)?;
            Ok(Judged::new(EvidenceKind::PlayIntegrity, summary, of_key(by)))
        }
        Given::Altcha { payload } => altcha(payload, by),
        Given::WebAuthn { client_data, attestation } => webauthn(client_data, attestation, by),
        Given::Approov { token } => approov(token, by),
        // Judged by whoever can ask: `asked.rs`.
        Given::Turnstile { .. } | Given::Hcaptcha { .. } | Given::Recaptcha { .. } | Given::AppCheck { .. } => {
            Err(refused("evidence_not_configured"))
        }
    }
}

/// Judge an assertion of an installation's App Attest key: its counter. That it rises is for the store to see, since only
/// there nobody comes in between.
pub(in crate::apps) fn judge_assertion(
    assertion: &str,
    (attested_key, app): (&[u8], &super::AppInForce),
    client_data: &[u8],
) -> Result<(u32, Extensions), Refused> {
    let assertion = binary(assertion)?;
    let rules = app.apple.as_ref().ok_or_else(|| refused("evidence_not_configured"))?;
    let public_key = attested_key.try_into().map_err(|_| refused("attested_key_missing"))?;
    let app_ids = [rules.app_id.as_str()];
    let judged_by = AssertionRules {
        public_key,
        app_ids: &app_ids,
        previous_counter: 0,
        client_data: ClientData::Plain(client_data),
    };
    let verified = apple::verify_assertion(&assertion, &judged_by).map_err(|error| refused(error.reason()))?;
    check_distribution(&verified.extensions, app)?;
    Ok((verified.counter, verified.extensions))
}

fn app_attest(key_id: &str, attestation: &str, by: &Circumstances) -> Result<Judged, Refused> {
    let rules = by.app.apple.as_ref().ok_or_else(|| refused("evidence_not_configured"))?;
    let (key_id, attestation) = (binary(key_id)?, binary(attestation)?);
    let app_ids = [rules.app_id.as_str()];
    let judged_by = AttestationRules {
        anchors: &rules.anchors,
        now: by.now,
        app_ids: &app_ids,
        environments: &rules.environments,
        client_data: ClientData::Plain(&by.client_data),
        key_id: Some(&key_id),
    };
    let verified = apple::verify_attestation(&attestation, &judged_by).map_err(|error| refused(error.reason()))?;
    check_distribution(&verified.extensions, &by.app)?;
    let receipt = by.app.fraud_metric.as_ref().map(|_| {
        // It is not signed with the rest: whoever puts another device's there is refused, not without a metric.
        let judged_by = ReceiptRules {
            anchors: &rules.receipts,
            now: Some(by.now),
            app_ids: &app_ids,
            public_key: Some(&verified.public_key),
            max_age: Some(NEW_RECEIPT),
        };
        let receipt = apple::verify_receipt(&verified.receipt, &judged_by);
        receipt.map(|receipt| (verified.receipt.clone(), receipt.not_before)).map_err(|error| refused(error.reason()))
    });
    let mut judged = Judged::new(EvidenceKind::AppleAppAttest, verified.summary, verified.key_id);
    judged.receipt = receipt.transpose()?;
    judged.attested_key = Some(verified.public_key.to_vec());
    judged.environment = Some(verified.environment.name());
    judged.category = verified.extensions.category.and_then(|category| u16::try_from(category).ok());
    judged.version = verified.extensions.bundle_version;
    Ok(judged)
}

/// How the app came to the device and which version it is, where the evidence says it.
fn check_distribution(extensions: &Extensions, app: &super::AppInForce) -> Result<(), Refused> {
    let Some(ios) = &app.config.ios else { return Err(refused("evidence_not_configured")) };
    let listed =
        |category: u32| ios.categories.is_empty() || ios.categories.iter().any(|one| u32::from(*one) == category);
    if extensions.category.is_some_and(|category| !listed(category)) {
        return Err(refused("category_not_allowed"));
    }
    if let (Some(version), Some(least)) = (&extensions.bundle_version, &ios.min_version)
        && apple::compare_bundle_versions(version, least).is_none_or(std::cmp::Ordering::is_lt)
    {
        return Err(refused("app_version_too_old"));
    }
    Ok(())
}

fn android_key(chain: &[String], play: Option<&str>, by: &Circumstances) -> Result<Judged, Refused> {
    let rules = by.app.android.as_ref().ok_or_else(|| refused("evidence_not_configured"))?;
    let configured = by.app.config.android.as_ref().ok_or_else(|| refused("evidence_not_configured"))?;
    if chain.len() > android::LIMITS.most {
        return Err(refused("chain_length"));
    }
    let ders = chain.iter().map(|text| binary(text)).collect::<Result<Vec<_>, _>>()?;
    let ders: Vec<&[u8]> = ders.iter().map(Vec::as_slice).collect();
    let status: &StatusList = by.revoked.as_deref().map_err(|reason| refused(reason))?;
    let challenge = sha256(&by.client_data);
    let judged_by = android::AndroidRules {
        anchors: &rules.anchors,
        status,
        now: by.now,
        challenge: Some(&challenge),
        app: Some(&rules.app),
        boot_keys: &rules.boot_keys,
    };
    let verified = android::verify(&ders, &judged_by).map_err(|error| refused(error.reason()))?;
    if verified.jkt() != by.key.jkt() {
        return Err(refused("attested_key_mismatch"));
    }
    let kept_in = match verified.description.attestation_level {
        SecurityLevel::StrongBox => Some(KeyHardware::StrongBox),
        SecurityLevel::TrustedEnvironment => Some(KeyHardware::TrustedEnvironment),
        SecurityLevel::Software => None,
    };
    if kept_in.is_none_or(|hardware| !configured.levels.contains(&hardware)) {
        return Err(refused("key_hardware_not_allowed"));
    }
    let packages = verified.description.software.application.as_ref().map(|app| app.packages.as_slice());
    let version = packages.and_then(<[_]>::first).map(|(_, version)| version.to_string());
    let mut judged = Judged::new(EvidenceKind::AndroidKey, verified.summary, sha256(&verified.public_key));
    judged.version = version;
    judged.serials = verified.serials;
    match (play, &configured.play_integrity) {
        // Google is asked about it later, once everything else holds.
        (Some(_), Some(_)) if matches!(by.app.play, Some(PlayOpener::Google(_))) => {}
        (Some(token), Some(_)) => judged.add_play(play_integrity(token, by)?),
        (None, Some(configured)) if configured.required => return Err(refused("play_integrity_missing")),
        _ => {}
    }
    Ok(judged)
}

/// Google's verdict, opened with keys of the operator's own.
fn play_integrity(token: &str, by: &Circumstances) -> Result<Summary, Refused> {
    let Some(PlayOpener::Own(keys)) = &by.app.play else { return Err(refused("evidence_not_configured")) };
    let hash = base64url_encode(sha256(&by.client_data));
    play::verify(token, keys, &play_rules(by, &hash)?).map_err(|error| refused(error.reason()))
}

/// What Google's verdict is judged by: asked for with the hash of the client data.
pub(in crate::apps) fn play_rules<'a>(by: &'a Circumstances, hash: &'a str) -> Result<PlayRules<'a>, Refused> {
    let rules = by.app.android.as_ref().ok_or_else(|| refused("evidence_not_configured"))?;
    let configured = by.app.config.android.as_ref().and_then(|android| android.play_integrity.as_ref());
    let standard = configured.is_some_and(|play| play.standard);
    Ok(PlayRules {
        app: &rules.app,
        binding: if standard { Binding::RequestHash(hash) } else { Binding::Nonce(hash) },
        now: by.now,
        max_age: DEFAULT_MAX_AGE,
        allow_testing: configured.is_some_and(|play| play.allow_testing),
    })
}

fn altcha(payload: &str, by: &Circumstances) -> Result<Judged, Refused> {
    let context = work_context(by.app.config.name.as_str(), &by.nonce);
    let (summary, used) = work_done(payload, &context, &by.work_keys, by.now)?;
    let mut judged = Judged::new(EvidenceKind::Altcha, summary, of_key(by));
    judged.used.push(used);
    Ok(judged)
}

/// What a proof of work over this context shows, signed with one of these keys, and what of it counts once.
pub(in crate::apps) fn work_done(
    payload: &str,
    context: &[u8],
    keys: &[[u8; 32]],
    now: base::Timestamp,
) -> Result<(Summary, UseUp), Refused> {
    let mut outcome = Err(refused("evidence_not_configured"));
    for key in keys {
        let solved = AltchaKey::new(key).verify(payload, context, now);
        let signed = !matches!(solved, Err(proof::attest::altcha::AltchaError::Signature));
        outcome = solved.map_err(|error| refused(error.reason()));
        if signed {
            break;
        }
    }
    let solved = outcome?;
    let used = once("altcha", base64url_encode(solved.id), solved.expires);
    Ok((solved.summary, used))
}

/// What a proof of work is asked for.
pub(in crate::apps) fn work_context(app: &str, nonce: &str) -> Vec<u8> {
    format!("enroll\0{app}\0{nonce}").into_bytes()
}

fn webauthn(client_data: &str, attestation: &str, by: &Circumstances) -> Result<Judged, Refused> {
    let (client_data, attestation) = (binary(client_data)?, binary(attestation)?);
    let registration = Registration { client_data: &client_data, attestation: &attestation };
    let challenge = sha256(&by.client_data);
    let credential = relying_party(&by.app, |party| webauthn::verify_registration(&registration, party, &challenge))?;
    let credential = credential.map_err(|error| refused(error.reason()))?;
    let mut judged = Judged::new(EvidenceKind::Webauthn, credential.summary, sha256(&credential.id));
    judged.attested_key = Some(credential.key.to_jwk().to_string().into_bytes());
    judged.counter = credential.counter;
    Ok(judged)
}

/// With the app's site, as passkeys know it.
pub(in crate::apps) fn relying_party<T>(
    app: &super::AppInForce,
    with: impl FnOnce(&RelyingParty<'_>) -> T,
) -> Result<T, Refused> {
    let web = app.config.web.as_ref();
    let site = web.and_then(|web| web.webauthn.as_ref()).ok_or_else(|| refused("evidence_not_configured"))?;
    let origins: Vec<&str> = web.iter().flat_map(|web| &web.origins).map(config::Origin::as_str).collect();
    Ok(with(&RelyingParty { id: &site.rp_id, origins: &origins, user_verification: site.user_verification }))
}

fn approov(token: &str, by: &Circumstances) -> Result<Judged, Refused> {
    let keys = by.app.approov.as_ref().ok_or_else(|| refused("evidence_not_configured"))?;
    let configured = by.app.config.approov.as_ref().ok_or_else(|| refused("evidence_not_configured"))?;
    let jkt = by.key.jkt();
    let rules = ApproovRules {
        keys,
        issuer: configured.issuer.as_deref(),
        binding: Some(&jkt),
        binding_required: !configured.allow_unbound,
        now: by.now,
    };
    let verified = approov::verify(token, &rules).map_err(|error| refused(error.reason()))?;
    let mut judged = Judged::new(EvidenceKind::Approov, verified.summary, of_key(by));
    judged.device = verified.device;
    judged.annotations = verified.annotations.iter().map(|text| format!("approov/{text}")).collect();
    if configured.allow_unbound {
        // Bound to nothing: whoever finds it must not enrol with it too. By what is signed: of an ECDSA signature anybody can make
        // a second one.
        let signed = token.trim().rsplit_once('.').map_or(token, |(signed, _)| signed);
        judged.used.push(once("approov", base64url_encode(sha256(signed.as_bytes())), verified.expires));
    }
    Ok(judged)
}

/// Something that counts once.
pub(in crate::apps) fn once(kind: &str, id: String, until: base::Timestamp) -> UseUp {
    UseUp { kind: OneTime::Evidence, key: vec![kind.to_owned(), id], until }
}

/// What evidence is known by that has no identity of its own: the key it was brought for.
pub(in crate::apps) fn of_key(by: &Circumstances) -> [u8; 32] {
    sha256(format!("{}\0{}", by.app.config.name, by.key.jkt()).as_bytes())
}

/// Base64 or base64url, padded or not.
pub(in crate::apps) fn binary(text: &str) -> Result<Vec<u8>, Refused> {
    let padded = || STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).ok();
    base64url_decode(text).or_else(padded).ok_or_else(|| refused("evidence_encoding"))
}

pub(in crate::apps) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0u8; 32];
    for (to, from) in out.iter_mut().zip(digest::digest(&digest::SHA256, bytes).as_ref()) {
        *to = *from;
    }
    out
}

/// Whether evidence carries far enough.
pub(in crate::apps) fn level_of(level: Level) -> config::AttestationLevel {
    config::AttestationLevel::from_name(level.name()).unwrap_or(config::AttestationLevel::None)
}

#[cfg(test)]
mod tests {
    use proof::attest::Evidence;

    use super::*;

    #[test]
    fn levels_and_kinds_of_evidence_have_one_name_each() {
        for level in Level::ALL {
            assert_eq!(level_of(level).as_str(), level.name());
        }
        for kind in EvidenceKind::ALL {
            assert!(Evidence::from_name(kind.as_str()).is_some(), "{}", kind.as_str());
        }
        for kind in Evidence::ALL.into_iter().filter(|kind| *kind != Evidence::DeviceCheck) {
            assert!(EvidenceKind::from_name(kind.name()).is_some(), "{kind}");
        }
    }

    #[test]
    fn binaries_are_read_in_both_alphabets() {
        for text in ["-_8", "+/8=", "+/8", "-_8="] {
            let read = binary(text).ok();
            assert_eq!(read.is_some(), text != "-_8=", "{text}");
        }
        assert!(binary("not base64").is_err());
    }
}
