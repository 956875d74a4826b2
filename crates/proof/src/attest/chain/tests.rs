use super::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

const LIMITS: ChainLimits = ChainLimits { fewest: 2, most: 4, bytes: 16 << 10 };

/// One authority or leaf: its key, what it is called, and what it may.
struct Party {
    key: KeyPair,
    params: CertificateParams,
}

fn party(name: &str, authority: Option<BasicConstraints>) -> Party {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(constraints) = authority {
        params.is_ca = IsCa::Ca(constraints);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    }
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2026, 12, 31);
    Party { key: KeyPair::generate().unwrap(), params }
}

fn authority(name: &str) -> Party {
    party(name, Some(BasicConstraints::Unconstrained))
}

/// `party`'s certificate, issued by `by`.
fn issued(party: &Party, by: &Party) -> Vec<u8> {
    let issuer = Issuer::from_params(&by.params, &by.key);
    party.params.signed_by(&party.key, &issuer).unwrap().der().to_vec()
}

fn own(party: &Party) -> Vec<u8> {
    party.params.self_signed(&party.key).unwrap().der().to_vec()
}

fn verdict(ders: &[&[u8]], anchors: &Anchors) -> &'static str {
    let chain = Chain::parse(ders, LIMITS).and_then(|chain| {
        chain.check_root(anchors)?;
        chain.verify_links()
    });
    chain.map_or_else(ChainError::reason, |()| "ok")
}

#[test]
fn a_chain_holds_up_to_a_pinned_key_whatever_certificate_the_root_has() {
    let (root, middle, leaf) = (authority("root"), authority("middle"), party("leaf", None));
    let ders = [issued(&leaf, &middle), issued(&middle, &root), own(&root)];
    let ders: Vec<&[u8]> = ders.iter().map(Vec::as_slice).collect();
    let mut later = root.params.clone();
    later.not_after = rcgen::date_time_ymd(2040, 1, 1);
    let reissued = later.self_signed(&root.key).unwrap();
    let anchors = Anchors::from_der([reissued.der().as_ref()]).unwrap();
    assert_ne!(reissued.der().as_ref(), ders[2]);
    assert_eq!(verdict(&ders, &anchors), "ok");
    // Without its root, as other makers send it.
    let below = Chain::parse(&ders[..2], LIMITS).unwrap();
    assert_eq!(below.verify_below_root(&anchors), Ok(()));
}

#[test]
fn a_chain_to_somebody_elses_root_is_refused() {
    let (root, forged) = (authority("root"), authority("root"));
    let (middle, leaf) = (authority("middle"), party("leaf", None));
    let anchors = Anchors::from_der([own(&root).as_slice()]).unwrap();
    let ders = [issued(&leaf, &middle), issued(&middle, &forged), own(&forged)];
    let ders: Vec<&[u8]> = ders.iter().map(Vec::as_slice).collect();
    assert_eq!(verdict(&ders, &anchors), "chain_unknown_root");
    let below = Chain::parse(&ders[..2], LIMITS).unwrap();
    assert_eq!(below.verify_below_root(&anchors), Err(ChainError::Signature(1)));
    // The genuine root above a certificate it did not sign.
    let ders = [ders[0], ders[1], &own(&root)];
    assert_eq!(verdict(&ders, &anchors), "chain_bad_signature");
    let unnamed = Anchors::from_der([own(&authority("other")).as_slice()]).unwrap();
    let below = Chain::parse(&ders[..2], LIMITS).unwrap();
    assert_eq!(below.verify_below_root(&unnamed), Err(ChainError::UnknownRoot));
}

#[test]
fn order_count_and_size_are_fixed() {
    let (root, middle, leaf) = (authority("root"), authority("middle"), party("leaf", None));
    let anchors = Anchors::from_der([own(&root).as_slice()]).unwrap();
    let (leaf, middle, root) = (issued(&leaf, &middle), issued(&middle, &root), own(&root));
    assert_eq!(verdict(&[&root, &middle, &leaf], &anchors), "chain_root_missing");
    assert_eq!(verdict(&[&leaf, &middle], &anchors), "chain_root_missing");
    assert_eq!(verdict(&[&middle, &leaf, &root], &anchors), "chain_not_authority");
    assert_eq!(verdict(&[&leaf, &root], &anchors), "chain_issuer_mismatch");
    assert_eq!(verdict(&[&leaf], &anchors), "chain_length");
    assert_eq!(verdict(&[&leaf, &middle, &root, &root, &root], &anchors), "chain_length");
    let trailing = [leaf.as_slice(), &[0]].concat();
    assert_eq!(verdict(&[&trailing, &middle, &root], &anchors), "chain_malformed_certificate");
    assert_eq!(verdict(&[&leaf[..40], &middle, &root], &anchors), "chain_malformed_certificate");
    let long = vec![0; LIMITS.bytes];
    assert_eq!(verdict(&[&leaf, &middle, &long], &anchors), "chain_too_long");
}

#[test]
fn only_authorities_issue_and_as_many_below_as_they_allow() {
    let root = authority("root");
    let anchors = Anchors::from_der([own(&root).as_slice()]).unwrap();
    let leaf = party("leaf", None);
    let chain_by = |middle: &Party| verdict(&[&issued(&leaf, middle), &issued(middle, &root), &own(&root)], &anchors);
    assert_eq!(chain_by(&party("middle", None)), "chain_not_authority");
    let mut wrong_usage = authority("middle");
    wrong_usage.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    assert_eq!(chain_by(&wrong_usage), "chain_key_usage");
    let mut silent = authority("middle");
    silent.params.key_usages = Vec::new();
    assert_eq!(chain_by(&silent), "ok");
    let narrow = party("upper", Some(BasicConstraints::Constrained(0)));
    assert_eq!(chain_by(&narrow), "ok");
    let lower = authority("lower");
    let long = [issued(&leaf, &lower), issued(&lower, &narrow), issued(&narrow, &root), own(&root)];
    let long: Vec<&[u8]> = long.iter().map(Vec::as_slice).collect();
    assert_eq!(verdict(&long, &anchors), "chain_path_length");
    let mut critical = authority("middle");
    let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    extension.set_criticality(true);
    critical.params.custom_extensions = vec![extension];
    assert_eq!(chain_by(&critical), "chain_critical_extension");
}

#[test]
fn dates_are_checked_where_the_caller_says() {
    let (root, middle, leaf) = (authority("root"), authority("middle"), party("leaf", None));
    let ders = [issued(&leaf, &middle), issued(&middle, &root), own(&root)];
    let ders: Vec<&[u8]> = ders.iter().map(Vec::as_slice).collect();
    let chain = Chain::parse(&ders, LIMITS).unwrap();
    let at = |text: &str| Timestamp::parse_rfc3339(text).unwrap();
    let check = |now: &str, expiry| chain.check_dates(1..2, at(now), expiry);
    assert_eq!(check("2026-06-01T00:00:00Z", Expiry::Refused), Ok(()));
    assert_eq!(check("2027-06-01T00:00:00Z", Expiry::Refused), Err(ChainError::Expired(1)));
    assert_eq!(check("2027-06-01T00:00:00Z", Expiry::Tolerated), Ok(()));
    assert_eq!(check("2025-06-01T00:00:00Z", Expiry::Tolerated), Err(ChainError::NotYetValid(1)));
}

#[test]
fn pem_is_read_up_to_its_limit() {
    let der = own(&authority("root"));
    let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &der);
    let block = format!("words\n-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
    assert_eq!(certificates_from_pem(&block.repeat(2), 2), Ok(vec![der.clone(), der]));
    assert_eq!(certificates_from_pem(&block.repeat(3), 2), Err(ChainError::Count(3)));
    for wrong in ["", "-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"] {
        assert_eq!(certificates_from_pem(wrong, 2), Err(ChainError::Pem), "{wrong}");
    }
}

#[test]
fn googles_two_roots_are_pinned() {
    let anchors = Anchors::google().unwrap();
    assert_eq!(anchors.anchors().len(), 2);
}
