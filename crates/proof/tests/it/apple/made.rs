//! Devices made up on the spot, for what no recording shows.

use base::Timestamp;
use proof::attest::FlagValue;
use proof::attest::apple::{
    AppleError, AssertionRules, AttestationRules, ClientData, Environment, VerifiedAttestation,
    compare_bundle_versions, verify_assertion, verify_attestation,
};
use proof::attest::chain::Anchors;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, SigningKey as _, date_time_ymd,
};

const APP: &str = "ABCDE12345.com.example.gateway";
const CLIENT: &[u8] = b"client data";

const NONCE: [u64; 7] = [1, 2, 840, 113_635, 100, 8, 2];
const ACCESS_CONTROL: [u64; 7] = [1, 2, 840, 113_635, 100, 8, 6];
const SYSTEM: [u64; 7] = [1, 2, 840, 113_635, 100, 8, 7];
const EXTENDED_KEY_USAGE: [u64; 4] = [2, 5, 29, 37];

fn sha256(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec()
}

/// A head of major type `major`, as short as can be.
fn head(major: u8, length: usize) -> Vec<u8> {
    match length {
        0..=23 => vec![major << 5 | u8::try_from(length).unwrap()],
        24..=255 => vec![major << 5 | 0x18, u8::try_from(length).unwrap()],
        _ => [&[major << 5 | 0x19][..], &u16::try_from(length).unwrap().to_be_bytes()].concat(),
    }
}

pub(super) fn text(text: &str) -> Vec<u8> {
    [head(3, text.len()), text.as_bytes().to_vec()].concat()
}

pub(super) fn string(bytes: &[u8]) -> Vec<u8> {
    [head(2, bytes.len()), bytes.to_vec()].concat()
}

/// A map of members that are written already.
fn map(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let members: Vec<u8> = members.iter().flat_map(|(name, value)| [text(name), value.clone()].concat()).collect();
    let count = members_in(&members);
    [head(5, count), members].concat()
}

/// How many members these bytes are, counted by the reader itself.
fn members_in(mut rest: &[u8]) -> usize {
    let limits = proof::attest::cbor::Limits { bytes: 1 << 20, depth: 8, items: 64, shortest: true };
    let mut items = 0;
    while !rest.is_empty() {
        rest = proof::attest::cbor::read_prefix(rest, limits).unwrap().1;
        items += 1;
    }
    items / 2
}

pub(super) fn object(certificates: &[Vec<u8>], receipt: &[u8], auth_data: &[u8]) -> Vec<u8> {
    let chain: Vec<u8> = certificates.iter().flat_map(|der| string(der)).collect();
    let chain = [head(4, certificates.len()), chain].concat();
    let statement = map(&[("x5c", chain), ("receipt", string(receipt))]);
    map(&[("fmt", text("apple-appattest")), ("attStmt", statement), ("authData", string(auth_data))])
}

/// A device and what Apple would sign for it.
struct Device {
    key: KeyPair,
    flags: u8,
    aaguid: [u8; 16],
    /// Written after the key, as it is.
    tail: Vec<u8>,
    extensions: Vec<(Vec<u64>, Vec<u8>)>,
    leaf_is_authority: bool,
}

impl Device {
    fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let aaguid = *b"appattest\0\0\0\0\0\0\0";
        Self { key, flags: 0x40, aaguid, tail: Vec::new(), extensions: Vec::new(), leaf_is_authority: false }
    }

    fn tail(mut self, members: &[(&str, Vec<u8>)]) -> Self {
        self.tail = map(members);
        self
    }

    fn extension(mut self, oid: &[u64], content: &[u8]) -> Self {
        self.extensions.push((oid.to_vec(), content.to_vec()));
        self
    }

    fn point(&self) -> [u8; 65] {
        self.key.public_key_raw().try_into().unwrap()
    }

    fn auth_data(&self) -> Vec<u8> {
        let point = self.point();
        let cose = [
            &[0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20][..],
            &point[1..33],
            &[0x22, 0x58, 0x20],
            &point[33..],
        ];
        let id = sha256(&point);
        let head = [&sha256(APP.as_bytes())[..], &[self.flags], &[0; 4], &self.aaguid, &[0, 32], &id].concat();
        [head, cose.concat(), self.tail.clone()].concat()
    }

    fn verified(&self) -> Result<VerifiedAttestation, AppleError> {
        let auth_data = self.auth_data();
        let nonce = sha256(&[auth_data.clone(), sha256(CLIENT)].concat());
        let root_key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let root_params = params("Test Attestation Root", true);
        let root = root_params.self_signed(&root_key).unwrap();
        let root = (Issuer::new(root_params, root_key), root);
        let ca_key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let mut ca_params = params("Test Attestation CA 2", true);
        ca_params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let ca = ca_params.signed_by(&ca_key, &root.0).unwrap();
        let ca_issuer = Issuer::new(ca_params, ca_key);
        let mut leaf = params("leaf", self.leaf_is_authority);
        let content = [&[0x30, 0x24, 0xa1, 0x22, 0x04, 0x20][..], &nonce].concat();
        leaf.custom_extensions.push(CustomExtension::from_oid_content(&NONCE, content));
        for (oid, content) in &self.extensions {
            leaf.custom_extensions.push(CustomExtension::from_oid_content(oid, content.clone()));
        }
        let leaf = leaf.signed_by(&self.key, &ca_issuer).unwrap();
        let chain = [leaf.der().to_vec(), ca.der().to_vec()];
        let anchors = Anchors::from_der([root.1.der().as_ref()]).unwrap();
        let rules = AttestationRules {
            anchors: &anchors,
            now: Timestamp::parse_rfc3339("2026-11-21T00:00:00Z").unwrap(),
            app_ids: &[APP],
            environments: &[Environment::Production],
            client_data: ClientData::Plain(CLIENT),
            key_id: None,
        };
        verify_attestation(&object(&chain, b"receipt", &auth_data), &rules)
    }

    fn assertion(&self, counter: u32, tail: &[u8]) -> Vec<u8> {
        let auth_data = [&sha256(APP.as_bytes())[..], &[self.flags], &counter.to_be_bytes(), tail].concat();
        let nonce = sha256(&[auth_data.clone(), sha256(CLIENT)].concat());
        let signature = self.key.sign(&nonce).unwrap();
        map(&[("signature", string(&signature)), ("authenticatorData", string(&auth_data))])
    }

    fn asserted(&self, assertion: &[u8]) -> Result<proof::attest::apple::VerifiedAssertion, AppleError> {
        let public_key = self.point();
        let client_data = ClientData::Plain(CLIENT);
        verify_assertion(
            assertion,
            &AssertionRules { public_key: &public_key, app_ids: &[APP], previous_counter: 4, client_data },
        )
    }
}

fn params(name: &str, authority: bool) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2026, 11, 20);
    params.not_after = date_time_ymd(2026, 11, 23);
    if authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    }
    params
}

fn category(number: u32) -> (&'static str, Vec<u8>) {
    ("apple_validation_category_01", string(&number.to_le_bytes()))
}

/// The extension that says which system it is.
fn system(name: &str) -> Vec<u8> {
    let text = [&[0x04, u8::try_from(name.len()).unwrap()], name.as_bytes()].concat();
    let member = [&[0xbf, 0x88, 0x02, u8::try_from(text.len()).unwrap()][..], &text].concat();
    [&[0x30, u8::try_from(member.len()).unwrap()][..], &member].concat()
}

fn macos_access_control() -> Vec<u8> {
    use base64::Engine as _;
    let blob = "MEAMAjExMDowCQwCb2uhAwEB/zAJDAJvYaEDAQH/MAsMBG9kZWyhAwEB/zAVDARvc2duoAYMBHJzZWMwBaYDAgEB";
    let blob = base64::engine::general_purpose::STANDARD.decode(blob).unwrap();
    [&[0x30, 0x46, 0xa3, 0x44, 0x04, 0x42][..], &blob].concat()
}

#[test]
fn flag_bits_do_not_decide_where_the_map_is() {
    for flags in [0x00, 0x40, 0x80, 0xc0, 0xff] {
        for tail in [Device::new(), Device::new().tail(&[category(4)])] {
            let device = Device { flags, ..tail };
            let verified = device.verified().unwrap_or_else(|error| panic!("{flags:x}: {error}"));
            assert_eq!(verified.extensions.category.is_some(), !device.tail.is_empty());
        }
        let device = Device { flags, ..Device::new() };
        assert_eq!(device.asserted(&device.assertion(5, &[])).map(|verified| verified.counter), Ok(5));
        let tail = map(&[category(4), ("apple_bundle_version_01", text("42"))]);
        let verified = device.asserted(&device.assertion(6, &tail)).unwrap();
        assert_eq!(
            (verified.extensions.category, verified.extensions.bundle_version.as_deref()),
            (Some(4), Some("42"))
        );
    }
}

#[test]
fn the_map_of_macos_27_is_read_and_must_be_whole() {
    let hash = ("apple_cd_hash_hash_01", string(&[7; 32]));
    let kind = ("apple_cd_hash_type_01", string(&[2]));
    let verified = Device::new().tail(&[category(6), hash.clone(), kind.clone()]).verified().unwrap();
    let code = verified.extensions.code_directory.unwrap();
    assert_eq!((code.kind, code.hash.as_slice()), (2, &[7; 32][..]));
    assert_eq!(verified.summary.facts["code_directory_hash"], "07".repeat(32));
    for members in [
        vec![hash.clone()],
        vec![kind.clone()],
        vec![("apple_cd_hash_hash_01", text("hash")), kind.clone()],
        vec![("apple_cd_hash_hash_01", string(&[])), kind],
        vec![hash.clone(), ("apple_cd_hash_type_01", vec![0x02])],
        vec![hash, ("apple_cd_hash_type_01", string(&[2, 2]))],
    ] {
        assert_eq!(Device::new().tail(&members).verified().unwrap_err().reason(), "malformed_extensions");
    }
}

#[test]
fn what_the_map_says_must_have_its_type_and_what_follows_it_is_refused() {
    for (members, reason) in [
        (vec![("apple_validation_category_01", vec![0x23])], "malformed_extensions"),
        (vec![("apple_validation_category_01", vec![0x1b, 0, 0, 0, 1, 0, 0, 0, 0])], "malformed_extensions"),
        (vec![("apple_validation_category_01", string(&[4, 0, 0, 0, 0]))], "malformed_extensions"),
        (vec![("apple_validation_category_01", text("4"))], "malformed_extensions"),
        (vec![("apple_bundle_version_01", string(b"42"))], "malformed_extensions"),
        (vec![("apple_bundle_version_01", text(&"1".repeat(129)))], "malformed_extensions"),
        (vec![category(4), category(4)], "duplicate_key"),
    ] {
        assert_eq!(Device::new().tail(&members).verified().unwrap_err().reason(), reason, "{members:?}");
    }
    for (tail, reason) in [
        (vec![0xa0, 0x00], "auth_data_trailing"),
        (vec![0x80], "malformed_extensions"),
        (vec![0xa1, 0x61], "cbor_truncated"),
        (vec![0xbf, 0xff], "malformed_cbor"),
        (vec![0xb8, 0x00], "cbor_not_shortest"),
    ] {
        assert_eq!(
            Device { tail: tail.clone(), ..Device::new() }.verified().unwrap_err().reason(),
            reason,
            "{tail:x?}"
        );
        let device = Device::new();
        assert_eq!(device.asserted(&device.assertion(5, &tail)).unwrap_err().reason(), reason, "{tail:x?}");
    }
    let verified = Device::new().tail(&[("apple_something_02", vec![0x81, 0xf5])]).verified().unwrap();
    assert_eq!(verified.extensions, proof::attest::apple::Extensions::default());
}

#[test]
fn a_category_is_little_endian_and_a_flag_for_the_policy() {
    // As the documentation has it, though no device writes it so.
    let number = Device::new().tail(&[("apple_validation_category_01", vec![0x04])]).verified().unwrap();
    assert_eq!(number.extensions.category, Some(4));
    let verified = Device::new().tail(&[category(2)]).verified().unwrap();
    let flag = verified.summary.flags.iter().find(|flag| flag.name() == "category").unwrap();
    assert_eq!(flag.value(), &FlagValue::Number(2));
    assert_eq!(flag.provenance(), proof::attest::Provenance::Attested);
}

#[test]
fn the_leaf_is_for_attestation_or_says_nothing_and_is_no_authority() {
    let attest = [0x30, 0x0b, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x63, 0x64, 0x04, 0x18];
    assert!(Device::new().extension(&EXTENDED_KEY_USAGE, &attest).verified().is_ok());
    // TLS clients; both; one of Apple's others.
    let client = [0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
    let both = [&[0x30, 0x15][..], &attest[2..], &client[2..]].concat();
    let mut other = attest;
    other[12] = 0x19;
    for usage in [&client[..], &both, &other] {
        let error = Device::new().extension(&EXTENDED_KEY_USAGE, usage).verified().unwrap_err();
        assert_eq!(error.reason(), "leaf_key_usage");
    }
    let authority = Device { leaf_is_authority: true, ..Device::new() };
    assert_eq!(authority.verified().unwrap_err().reason(), "leaf_is_authority");
}

#[test]
fn the_access_control_is_compared_on_macos_only() {
    let ios = b"\x30\x06\xa3\x04\x04\x02\x30\x00";
    let on = |name: &str| Device::new().extension(&SYSTEM, &system(name));
    assert!(on("iphoneos").extension(&ACCESS_CONTROL, ios).verified().is_ok());
    assert!(Device::new().extension(&ACCESS_CONTROL, ios).verified().is_ok());
    let verified = on("macosx").extension(&ACCESS_CONTROL, &macos_access_control()).verified().unwrap();
    assert_eq!(verified.summary.facts["platform"], "macosx");
    assert_eq!(on("macosx").extension(&ACCESS_CONTROL, ios).verified().unwrap_err().reason(), "access_control");
    assert_eq!(on("macosx").verified().unwrap_err().reason(), "access_control");
    let longer = [macos_access_control(), vec![0]].concat();
    assert_eq!(on("macosx").extension(&ACCESS_CONTROL, &longer).verified().unwrap_err().reason(), "access_control");
}

#[test]
fn the_environment_is_by_the_whole_aaguid() {
    for aaguid in [*b"appattestdevelo\0", *b"appattest\0\0\0\0\0\0\x01", [0; 16]] {
        let device = Device { aaguid, ..Device::new() };
        assert_eq!(device.verified().unwrap_err().reason(), "unknown_environment");
    }
    let device = Device { aaguid: *b"appattestdevelop", ..Device::new() };
    assert_eq!(device.verified().unwrap_err().reason(), "environment_not_allowed");
}

#[test]
fn signatures_have_one_spelling() {
    let device = Device::new();
    let assertion = device.assertion(5, &[]);
    let limits = proof::attest::cbor::Limits { bytes: 4096, depth: 4, items: 16, shortest: true };
    let value = proof::attest::cbor::read(&assertion, limits).unwrap();
    let part = |name| value.map().unwrap().get(name).unwrap().bytes().unwrap().to_vec();
    let (good, data) = (part("signature"), part("authenticatorData"));
    let with = |signature: &[u8]| {
        let object = map(&[("signature", string(signature)), ("authenticatorData", string(&data))]);
        device.asserted(&object).map(|_| ()).map_err(AppleError::reason)
    };
    assert_eq!(with(&good), Ok(()));
    let mut long_form = vec![0x30, 0x81, good[1]];
    long_form.extend_from_slice(&good[2..]);
    assert_eq!(with(&long_form), Err("signature_not_der"));
    assert_eq!(with(&[good.as_slice(), &[0]].concat()), Err("signature_not_der"));
    let r_len = usize::from(good[3]);
    let mut padded = vec![0x30, good[1] + 1, 0x02, good[3] + 1, 0x00];
    padded.extend_from_slice(&good[4..]);
    if good[4] < 0x80 && good[4] != 0 {
        assert_eq!(with(&padded), Err("signature_not_der"));
    }
    let mut negative = good.clone();
    negative[4] |= 0x80;
    if good[4] < 0x80 {
        assert_eq!(with(&negative), Err("signature_not_der"));
    }
    assert_eq!(with(&good[..4 + r_len]), Err("signature_not_der"));
    assert_eq!(with(&[]), Err("signature_not_der"));
}

#[test]
fn other_members_and_formats_are_refused() {
    let device = Device::new();
    let read = |object: &[u8]| device.asserted(object).unwrap_err().reason();
    assert_eq!(read(&map(&[("signature", string(&[1]))])), "unexpected_members");
    let three = [("signature", string(&[1])), ("authenticatorData", string(&[0; 37])), ("more", vec![0xf6])];
    assert_eq!(read(&map(&three)), "unexpected_members");
    assert_eq!(read(&[0x80]), "unexpected_members");
    assert_eq!(read(&[0x00; 5000]), "too_long");
    let anchors = Anchors::google().unwrap();
    let verdict = |object: &[u8]| {
        let rules = AttestationRules {
            anchors: &anchors,
            now: Timestamp::from_secs(0),
            app_ids: &[APP],
            environments: &[Environment::Production],
            client_data: ClientData::Plain(CLIENT),
            key_id: None,
        };
        verify_attestation(object, &rules).unwrap_err().reason()
    };
    let statement = map(&[("x5c", vec![0x80]), ("receipt", string(&[]))]);
    let packed = map(&[("fmt", text("packed")), ("attStmt", statement.clone()), ("authData", string(&[]))]);
    assert_eq!(verdict(&packed), "wrong_format");
    let right = ("fmt", text("apple-appattest"));
    let four = [right.clone(), ("attStmt", statement), ("authData", string(&[])), ("more", vec![0])];
    assert_eq!(verdict(&map(&four)), "unexpected_members");
    let no_receipt = map(&[("x5c", vec![0x80])]);
    assert_eq!(verdict(&map(&[right, ("attStmt", no_receipt), ("authData", string(&[]))])), "unexpected_members");
    assert_eq!(verdict(&[0xf6]), "unexpected_members");
}

#[test]
fn versions_of_bundles_are_compared_number_by_number() {
    use std::cmp::Ordering::{Equal, Greater, Less};
    for (one, other, expected) in [
        ("1.10", "1.9", Some(Greater)),
        ("1.2", "1.2.0", Some(Equal)),
        ("41", "42", Some(Less)),
        ("1.0.0", "1", Some(Equal)),
        ("1.2b", "1.2", None),
        ("", "1", None),
        ("1..2", "1", None),
    ] {
        assert_eq!(compare_bundle_versions(one, other), expected, "{one} {other}");
    }
}
