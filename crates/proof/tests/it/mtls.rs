//! Client certificates (RFC 8705): what stands in them, and whom they name.

use base::Timestamp;
use proof::mtls::{
    CertificateError, ClientCertificate, DistinguishedName, MAX_CERTIFICATE_LEN, TlsClientRule, certificate_thumbprint,
    parse_client_cert_header,
};
use proptest::prelude::*;
use rcgen::{CertificateParams, DistinguishedName as Named, DnType, KeyPair, SanType, date_time_ymd};

/// A self-signed certificate with a name of every kind.
fn certificate() -> Vec<u8> {
    certificate_with(|_| {})
}

fn certificate_with(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    let mut subject = Named::new();
    subject.push(DnType::CountryName, "DE");
    subject.push(DnType::OrganizationName, "Example, Inc.");
    subject.push(DnType::CommonName, "batch");
    params.distinguished_name = subject;
    params.subject_alt_names = vec![
        SanType::DnsName("Batch.example.com".try_into().unwrap()),
        SanType::DnsName("*.wild.example.com".try_into().unwrap()),
        SanType::URI("spiffe://example.com/batch".try_into().unwrap()),
        SanType::Rfc822Name("batch@example.com".try_into().unwrap()),
        SanType::IpAddress("192.0.2.7".parse().unwrap()),
        SanType::IpAddress("2001:db8::7".parse().unwrap()),
    ];
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    change(&mut params);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn name(text: &str) -> TlsClientRule {
    TlsClientRule::SubjectDn(DistinguishedName::parse(text).unwrap())
}

#[test]
fn a_certificates_names_dates_and_thumbprint_are_read() {
    let der = certificate();
    let read = ClientCertificate::parse(&der).unwrap();
    assert_eq!(*read.thumbprint(), certificate_thumbprint(&der));
    assert_eq!(read.thumbprint_text().len(), 43);
    assert_eq!(read.subject().to_string(), r"CN=batch,O=Example\, Inc.,C=DE");
    assert_eq!(read.dns(), ["Batch.example.com", "*.wild.example.com"]);
    assert_eq!(read.uri(), ["spiffe://example.com/batch"]);
    assert_eq!(read.email(), ["batch@example.com"]);
    assert_eq!(read.ip().iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.7", "2001:db8::7"]);
    let (first, last) = (Timestamp::from_secs(1_767_225_600), Timestamp::from_secs(1_798_761_600));
    assert_eq!((read.not_before(), read.not_after()), (first, last));
    for (now, valid) in [
        (first.as_millis() - 1, false),
        (first.as_millis(), true),
        (last.as_millis() + 999, true),
        (last.as_millis() + 1000, false),
    ] {
        assert_eq!(read.in_date(Timestamp::from_millis(now)), valid, "{now}");
    }
}

#[test]
fn a_37_a_rule_fits_the_one_certificate_it_means() {
    let read = ClientCertificate::parse(&certificate()).unwrap();
    let dns = |text: &str| TlsClientRule::SanDns(text.into());
    let uri = |text: &str| TlsClientRule::SanUri(text.into());
    let ip = |text: &str| TlsClientRule::SanIp(text.parse().unwrap());
    let mail = |text: &str| TlsClientRule::SanEmail(text.into());
    for rule in [
        name(r"CN=batch,O=Example\, Inc.,C=DE"),
        name(r"cn=batch, o=Example\2C Inc., c=DE"),
        dns("batch.EXAMPLE.com"),
        uri("spiffe://example.com/batch"),
        ip("192.0.2.7"),
        ip("2001:db8:0::7"),
        mail("batch@example.com"),
    ] {
        assert!(read.matches(&rule), "{rule:?}");
    }
    for rule in [
        name("CN=batch"),
        name(r"CN=Batch,O=Example\, Inc.,C=DE"),
        name(r"C=DE,O=Example\, Inc.,CN=batch"),
        name(r"CN=batch,O=Example\, Inc.,C=DE,C=DE"),
        dns("example.com"),
        dns("a.wild.example.com"),
        dns("Batch.example.com."),
        dns(""),
        uri("spiffe://example.com/batch/"),
        uri("SPIFFE://example.com/batch"),
        ip("192.0.2.8"),
        ip("::ffff:192.0.2.7"),
        mail("Batch@example.com"),
        // What is a name of one kind is none of another.
        dns("batch@example.com"),
        mail("Batch.example.com"),
        uri("batch"),
    ] {
        assert!(!read.matches(&rule), "{rule:?}");
    }
    // A certificate of nobody is nobody's.
    let nameless = certificate_with(|params| {
        params.distinguished_name = Named::new();
        params.subject_alt_names.clear();
    });
    let nameless = ClientCertificate::parse(&nameless).unwrap();
    assert!(nameless.subject().is_empty() && !nameless.matches(&TlsClientRule::SubjectDn(nameless.subject().clone())));
}

#[test]
fn string_types_of_a_name_do_not_matter() {
    for value in [
        rcgen::DnValue::Utf8String("batch".into()),
        rcgen::DnValue::PrintableString("batch".try_into().unwrap()),
        rcgen::DnValue::Ia5String("batch".try_into().unwrap()),
        rcgen::DnValue::TeletexString("batch".try_into().unwrap()),
        rcgen::DnValue::BmpString("batch".try_into().unwrap()),
    ] {
        let der = certificate_with(|params| {
            params.distinguished_name = Named::new();
            params.distinguished_name.push(DnType::CommonName, value.clone());
        });
        assert!(ClientCertificate::parse(&der).unwrap().matches(&name("CN=batch")), "{value:?}");
    }
}

#[test]
fn what_is_not_one_certificate_is_refused() {
    let der = certificate();
    for wrong in
        [&[][..], b"x", &der[..der.len() - 1], &der[1..], &[der.as_slice(), b"\0"].concat(), &[0x30, 0x80, 0, 0]]
    {
        assert_eq!(ClientCertificate::parse(wrong), Err(CertificateError::Malformed));
    }
    assert_eq!(ClientCertificate::parse(&vec![0; MAX_CERTIFICATE_LEN + 1]), Err(CertificateError::TooLong));
    let many = certificate_with(|params| {
        let names = (0..65).map(|n| SanType::DnsName(format!("n{n}.example.com").try_into().unwrap()));
        params.subject_alt_names = names.collect();
    });
    assert_eq!(ClientCertificate::parse(&many), Err(CertificateError::TooManyNames));
}

#[test]
fn the_example_of_rfc_9440_is_read() {
    // Appendix A; the same stands in RFC 9421 appendix B.3.
    let value = ":MIIBqDCCAU6gAwIBAgIBBzAKBggqhkjOPQQDAjA6MRswGQYDVQQKDBJMZXQncyBBdXRoZW50aWNhdGUxGzAZBgNVBAMMEkxBIEludGVyb\
                 WVkaWF0ZSBDQTAeFw0yMDAxMTQyMjU1MzNaFw0yMTAxMjMyMjU1MzNaMA0xCzAJBgNVBAMMAkJDMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgA\
                 E8YnXXfaUgmnMtOXU/IncWalRhebrXmckC8vdgJ1p5Be5F/3YC8OthxM4+k1M6aEAEFcGzkJiNy6J84y7uzo9M6NyMHAwCQYDVR0TBAIwADAfB\
                 gNVHSMEGDAWgBRm3WjLa38lbEYCuiCPct0ZaSED2DAOBgNVHQ8BAf8EBAMCBsAwEwYDVR0lBAwwCgYIKwYBBQUHAwIwHQYDVR0RAQH/BBMwEYE\
                 PYmRjQGV4YW1wbGUuY29tMAoGCCqGSM49BAMCA0gAMEUCIBHda/r1vaL6G3VliL4/Di6YK0Q6bMjeSkC3dFCOOB8TAiEAx/kHSB4urmiZ0NX5r\
                 5XarmPk0wmuydBVoU4hBVZ1yhk=:";
    let read = ClientCertificate::parse(&parse_client_cert_header(value).unwrap()).unwrap();
    assert_eq!(read.subject().to_string(), "CN=BC");
    assert_eq!(read.email(), ["bdc@example.com"]);
    assert!(read.matches(&TlsClientRule::SanEmail("bdc@example.com".into())));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
        prop_assert!(ClientCertificate::parse(&bytes).is_err());
    }

    #[test]
    fn a_changed_certificate_is_another_one_or_none(at in 0usize..400, bit in 0u8..8) {
        use std::sync::OnceLock;
        static DER: OnceLock<Vec<u8>> = OnceLock::new();
        let der = DER.get_or_init(certificate);
        let mut changed = der.clone();
        let at = at % changed.len();
        changed[at] ^= 1 << bit;
        if let Ok(read) = ClientCertificate::parse(&changed) {
            prop_assert_ne!(*read.thumbprint(), certificate_thumbprint(der));
        }
    }
}
