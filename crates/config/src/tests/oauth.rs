//! Clients, proofs, sign-in and security events: what is said about a wrong one.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::{bad, good, only};
use crate::{Bound, Client, ClientAuth, ClientKeys, Grant, RedirectUri, Requirement, TlsRule};

const CORP: &str =
    "[[issuer]]\nname = \"corp\"\nissuer = \"https://id.example.com/\"\naudience = [\"a\"]\ndiscovery = true\n";
const SIGNIN: &str = "[signin]\nissuer = \"corp\"\nclient_id = \"gateway\"\n";

fn client(rest: &str) -> String {
    format!("[[client]]\nname = \"c\"\n{rest}\n")
}

/// Code and path of the one fault.
fn code(text: &str) -> String {
    only(text).split_once(' ').unwrap().1.to_owned()
}

#[test]
fn each_way_a_client_proves_itself_needs_its_parts_and_no_others() {
    let auth = |auth: &str| client(&format!("auth = {{ {auth} }}"));
    good(&auth("method = \"private_key_jwt\", jwks_file = \"c.jwks\""));
    good(&auth("method = \"private_key_jwt\", jwks_url = \"https://c.example.com/jwks\", algorithms = [\"ES256\"]"));
    good(&auth("method = \"private_key_jwt\", jwks_url = \"http://127.0.0.1:9/jwks\", allow_private = true"));
    for (wrong, fault) in [
        ("method = \"private_key_jwt\"", "missing_key client[0].auth"),
        ("method = \"private_key_jwt\", jwks_file = \"a\", jwks_url = \"https://b\"", "conflict client[0].auth"),
        ("method = \"private_key_jwt\", jwks_url = \"http://127.0.0.1:9/jwks\"", "bad_value client[0].auth.jwks_url"),
        ("method = \"private_key_jwt\", jwks_url = \"https://10.0.0.1/jwks\"", "bad_value client[0].auth.jwks_url"),
        (
            "method = \"private_key_jwt\", jwks_file = \"a\", algorithms = [\"HS256\"]",
            "conflict client[0].auth.algorithms[0]",
        ),
        (
            "method = \"private_key_jwt\", jwks_file = \"a\", algorithms = [\"ES256\", \"ES256\"]",
            "bad_value client[0].auth.algorithms[1]",
        ),
        (
            "method = \"private_key_jwt\", jwks_file = \"a\", algorithms = [\"none\"]",
            "bad_value client[0].auth.algorithms[0]",
        ),
        ("method = \"private_key_jwt\", jwks_file = \"a\", hash = \"x\"", "unknown_key client[0].auth.hash"),
        ("method = \"client_secret\"", "missing_key client[0].auth"),
        ("method = \"client_secret\", hash = \"hunter2\"", "bad_value client[0].auth.hash"),
        ("method = \"client_secret_jwt\"", "bad_value client[0].auth.method"),
        ("method = \"attestation\"", "unknown_reference client[0].name"),
        ("hash = \"x\"", "missing_key client[0].auth"),
    ] {
        assert_eq!(code(&auth(wrong)), fault, "{wrong}");
    }
}

#[test]
fn a_certificate_is_described_in_exactly_one_way() {
    const TLS: &str = "[server]\ntls = { cert = \"c\", key = \"k\", client_ca = \"ca\" }\n";
    let auth = |rest: &str| format!("{TLS}{}", client(&format!("auth = {{ method = \"tls_client_auth\", {rest} }}")));
    for right in [
        "subject_dn = \"CN=batch,O=Example\"",
        "subject_dn = \"CN=a\\\\,b\\\\=c+UID=7,2.5.4.10=#0403616263\"",
        "san_dns = \"batch.example.com\"",
        "san_uri = \"spiffe://example.com/batch\"",
        "san_ip = \"2001:db8::1\"",
        "san_email = \"batch@example.com\"",
    ] {
        let config = good(&auth(right));
        assert!(config.clients[0].auth.as_ref().unwrap().tls_rule().is_some(), "{right}");
    }
    for (wrong, fault) in [
        ("subject_dn = \"CN=a\", san_dns = \"a\"", "conflict client[0].auth"),
        ("subject_dn = \"/CN=batch/O=Example\"", "bad_value client[0].auth.subject_dn"),
        ("subject_dn = \"CN = batch\"", "bad_value client[0].auth.subject_dn"),
        ("subject_dn = \"CN=batch, O=Example\"", "bad_value client[0].auth.subject_dn"),
        ("subject_dn = \"batch\"", "bad_value client[0].auth.subject_dn"),
        ("subject_dn = \"CN=a,\"", "bad_value client[0].auth.subject_dn"),
        ("subject_dn = \"\"", "bad_value client[0].auth.subject_dn"),
        ("san_dns = \"*.example.com\"", "bad_value client[0].auth.san_dns"),
        ("san_dns = \"a..b\"", "bad_value client[0].auth.san_dns"),
        ("san_uri = \"batch\"", "bad_value client[0].auth.san_uri"),
        ("san_ip = \"10.0.0.0/8\"", "bad_value client[0].auth.san_ip"),
        ("san_email = \"batch\"", "bad_value client[0].auth.san_email"),
        ("san_email = \"a@b@c\"", "bad_value client[0].auth.san_email"),
    ] {
        assert_eq!(code(&auth(wrong)), fault, "{wrong}");
    }
    let none = format!("{TLS}{}", client("auth = { method = \"tls_client_auth\" }"));
    assert_eq!(code(&none), "missing_key client[0].auth");
    let rule = |auth: ClientAuth| auth.tls_rule().is_some();
    let empty = || (None, None, None, None, None);
    let (subject_dn, san_dns, san_uri, san_ip, san_email) = empty();
    assert!(!rule(ClientAuth::TlsClientAuth { subject_dn, san_dns, san_uri, san_ip, san_email }));
}

#[test]
fn certificates_need_a_place_where_clients_can_show_them() {
    let asks = [
        client("auth = { method = \"self_signed_tls_client_auth\", certificate = \"c.pem\" }"),
        client("require = [\"mtls\"]\nauth = { method = \"private_key_jwt\", jwks_file = \"j\" }"),
        "[[policy]]\nname = \"p\"\nwho = { bound = [\"dpop\", \"mtls\"] }\nmay = { models = \"*\" }\n".to_owned(),
    ];
    for ask in &asks {
        let (place, ..) = bad(ask).remove(0).path.rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert_eq!(code(ask).split(' ').next(), Some("conflict"), "{place}: {ask}");
        assert!(
            code(&format!("[server]\ntls = {{ cert = \"c\", key = \"k\" }}\n{ask}")).starts_with("conflict"),
            "{ask}"
        );
        good(&format!("[server]\ntls = {{ cert = \"c\", key = \"k\", client_certificates = \"any\" }}\n{ask}"));
        good(&format!("[server]\ntrusted_proxies = [\"10.0.0.0/8\"]\n{ask}"));
        // A section that cannot be read is not held against it.
        assert_eq!(code(&format!("[server]\nlistn = 1\n{ask}")), "unknown_key server.listn");
    }
    let signed = client("auth = { method = \"tls_client_auth\", san_dns = \"a\" }");
    assert_eq!(code(&format!("[server]\ntls = {{ cert = \"c\", key = \"k\" }}\n{signed}")), "conflict client[0].auth");
    good(&format!("[server]\ntls = {{ cert = \"c\", key = \"k\", client_ca = \"a\" }}\n{signed}"));
    let tls = |more: &str| format!("[server]\ntls = {{ cert = \"c\", key = \"k\", {more} }}\n");
    assert_eq!(code(&format!("{}{}", tls("client_ca = \"a\""), asks[0])), "conflict client[0].auth");
    good(&format!("{}{}", tls("client_ca = \"a\", client_certificates = \"any\""), asks[0]));
    good(&format!("{}{}", tls("client_ca = \"a\""), asks[1]));
    for wrong in ["client_certificates = \"ca\"", "client_ca = \"a\", client_certificates = \"off\""] {
        assert_eq!(code(&tls(wrong)), "conflict server.tls.client_certificates", "{wrong}");
    }
    assert_eq!(code(&tls("client_certificates = \"all\"")), "bad_value server.tls.client_certificates");
    good(&format!("[server]\ntrusted_proxies = [\"10.0.0.0/8\"]\n{signed}"));
}

#[test]
fn a_public_client_binds_its_tokens_and_has_no_credentials() {
    let app = "auth = { method = \"none\" }\ngrants = [\"authorization_code\", \"refresh_token\"]\nredirect_uris = [\"com.example.app:/cb\"]";
    good(&format!("{CORP}{SIGNIN}{}", client(&format!("{app}\nrequire = [\"dpop\", \"par\"]"))));
    let faults = bad(&format!("{CORP}{SIGNIN}{}", client(app)));
    assert_eq!((faults.len(), faults[0].code, faults[0].path.as_str()), (1, "missing_key", "client[0]"));
    assert_eq!(faults[0].hint.as_deref(), Some("add require = [\"dpop\"]"));
    let public = |rest: &str| client(&format!("auth = {{ method = \"none\" }}\nrequire = [\"dpop\"]\n{rest}"));
    assert_eq!(code(&public("grants = [\"client_credentials\"]")), "conflict client[0].grants[0]");
    assert_eq!(code(&public("introspect = true")), "conflict client[0].introspect");
    good(&public(""));
}

#[test]
fn grants_need_what_they_work_with() {
    let known = "auth = { method = \"private_key_jwt\", jwks_file = \"j\" }";
    let with = |rest: &str| format!("{CORP}{SIGNIN}{}", client(&format!("{known}\n{rest}")));
    good(&with("grants = []"));
    good(&with("grants = [\"device_code\", \"refresh_token\"]"));
    good(&with("grants = [\"token_exchange\"]\nexchange = [\"corp\"]"));
    for (wrong, fault) in [
        ("grants = [\"refresh_token\"]", "conflict client[0].grants[0]"),
        ("grants = [\"client_credentials\", \"refresh_token\"]", "conflict client[0].grants[1]"),
        ("grants = [\"authorization_code\"]", "missing_key client[0].grants[0]"),
        ("redirect_uris = [\"https://a.example/cb\"]", "conflict client[0].redirect_uris"),
        ("grants = [\"token_exchange\"]", "missing_key client[0].grants[0]"),
        ("exchange = [\"corp\"]", "conflict client[0].exchange"),
        ("grants = [\"token_exchange\"]\nexchange = [\"crop\"]", "unknown_reference client[0].exchange[0]"),
        ("grants = [\"token_exchange\"]\nexchange = [\"corp\", \"corp\"]", "bad_value client[0].exchange[1]"),
        ("grants = [\"device_code\", \"device_code\"]", "bad_value client[0].grants[1]"),
        ("require = [\"par\"]", "conflict client[0].require[0]"),
        ("require = [\"dpop\", \"dpop\"]", "bad_value client[0].require[1]"),
        ("require = [\"single_use\"]", "bad_value client[0].require[0]"),
        ("grants = [\"password\"]", "bad_value client[0].grants[0]"),
        ("grants = [\"implicit\"]", "bad_value client[0].grants[0]"),
    ] {
        assert_eq!(code(&with(wrong)), fault, "{wrong}");
    }
    assert_eq!(code(&client("grants = [\"client_credentials\"]")), "conflict client[0].grants");
    assert_eq!(code(&client("introspect = true")), "conflict client[0].introspect");
    let device = client(&format!("{known}\ngrants = [\"device_code\"]"));
    assert_eq!(code(&device), "conflict client[0].grants[0]");
    assert_eq!(code(&format!("{CORP}[signin]\nissuer = 5\nclient_id = \"g\"\n{device}")), "wrong_type signin.issuer");
}

#[test]
fn the_grants_in_force_are_those_given_or_follow_from_the_proof() {
    let grants = |rest: &str| good(&client(rest)).clients[0].grants().to_vec();
    assert!(grants("").is_empty());
    assert!(grants("auth = { method = \"none\" }\nrequire = [\"dpop\"]").is_empty());
    assert_eq!(grants("auth = { method = \"private_key_jwt\", jwks_file = \"j\" }"), [Grant::ClientCredentials]);
    assert!(grants("auth = { method = \"private_key_jwt\", jwks_file = \"j\" }\ngrants = []").is_empty());
    for grant in Grant::ALL {
        assert_eq!(serde_json::to_value(grant).unwrap(), grant.as_str());
    }
    for (proof, word) in [(Bound::Dpop, "dpop"), (Bound::Mtls, "mtls"), (Bound::Signature, "signature")] {
        assert_eq!((serde_json::to_value(proof).unwrap().as_str(), proof.as_str()), (Some(word), word));
    }
}

#[test]
fn what_is_said_of_a_client_is_found_again() {
    let text = client(
        "auth = { method = \"private_key_jwt\", jwks_url = \"http://127.0.0.1:9/j\", allow_private = true }\n\
         grants = [\"token_exchange\"]\nexchange = [\"corp\"]\nrequire = [\"signature\"]",
    );
    let config = good(&format!("{CORP}{text}"));
    let client: &Client = &config.clients[0];
    let auth = client.auth.as_ref().unwrap();
    assert!(matches!(auth.keys(), Some(ClientKeys::Url { allow_private: true, .. })));
    assert_eq!(auth.assertion_algorithms(), crate::Algorithm::PUBLIC_DEFAULTS);
    assert!(client.requires(Requirement::Signature) && !client.requires(Requirement::Dpop));
    let ip = ClientAuth::TlsClientAuth {
        subject_dn: None,
        san_dns: None,
        san_uri: None,
        san_ip: Some([10, 0, 0, 1].into()),
        san_email: None,
    };
    assert_eq!(ip.tls_rule(), Some(TlsRule::SanIp([10, 0, 0, 1].into())));
    assert!(ip.uses_certificate() && ip.keys().is_none() && ip.assertion_algorithms().is_empty());
    for auth in [auth, &ip, &ClientAuth::None] {
        assert_eq!(serde_json::to_value(auth).unwrap()["method"], auth.method());
    }
}

#[test]
fn a_redirect_uri_is_https_or_loopback_or_an_app() {
    for right in [
        "https://app.example.com/callback",
        "https://app.example.com:8443/callback?tenant=a",
        "http://127.0.0.1/callback",
        "http://127.0.0.1:7777/callback",
        "http://[::1]/",
        "http://127.0.0.1",
        "http://localhost:3000/cb",
        "com.example.app:/callback",
        "com.example.app://callback",
    ] {
        assert_eq!(right.parse::<RedirectUri>().unwrap().as_str(), right);
    }
    for wrong in [
        "",
        "/callback",
        "app.example.com/callback",
        "http://app.example.com/callback",
        "http://127.0.0.1.example.com/callback",
        "http://127.0.0.2/callback",
        "http://localhost.example.com/",
        "http://2130706433/cb",
        "https://app.example.com/callback#part",
        "https://user@app.example.com/callback",
        "https://*.example.com/callback",
        "https://app.example.com/a b",
        "https://app.example.com\\@evil.example/",
        "javascript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "myapp:/callback",
        "ftp://a.example/",
        "https://",
    ] {
        assert!(wrong.parse::<RedirectUri>().is_err(), "{wrong}");
    }
}

#[test]
fn a_redirect_uri_matches_itself_and_on_loopback_any_port() {
    let uri = |text: &str| text.parse::<RedirectUri>().unwrap();
    let loopback = uri("http://127.0.0.1/callback");
    for same in ["http://127.0.0.1/callback", "http://127.0.0.1:1/callback", "http://127.0.0.1:65535/callback"] {
        assert!(loopback.matches(same) && uri("http://127.0.0.1:7777/callback").matches(same), "{same}");
    }
    assert!(uri("http://[::1]:5/cb?x=1").matches("http://[::1]:6/cb?x=1"));
    for other in [
        "http://127.0.0.1:7777/callback/",
        "http://127.0.0.1:7777/callback?x=1",
        "http://127.0.0.1:7777/Callback",
        "http://127.0.0.1:7777/callback#x",
        "http://127.0.0.1:0/callback",
        "http://127.0.0.1:/callback",
        "http://127.0.0.1:065/callback",
        "http://127.0.0.1:65536/callback",
        "http://127.0.0.1:+80/callback",
        "http://127.0.0.1:80@evil.example/callback",
        "http://127.0.0.1@evil.example/callback",
        "http://127.0.0.1.evil.example/callback",
        "http://localhost:7777/callback",
        "http://[::1]:7777/callback",
        "https://127.0.0.1:7777/callback",
        "HTTP://127.0.0.1:7777/callback",
    ] {
        assert!(!loopback.matches(other), "{other}");
    }
    for exact in ["https://app.example.com/cb", "http://localhost:3000/cb", "com.example.app:/cb"] {
        let uri = uri(exact);
        assert!(uri.matches(exact));
        for other in [format!("{exact}/"), format!("{exact}?a=b"), exact.replace("/cb", ":99/cb"), exact.to_uppercase()]
        {
            assert!(!uri.matches(&other), "{exact} {other}");
        }
    }
}

#[test]
fn sign_in_leads_to_an_openid_provider() {
    let signin = |rest: &str| format!("{CORP}[signin]\nissuer = \"corp\"\nclient_id = \"g\"\n{rest}\n");
    let config = good(&signin(""));
    let scopes: Vec<&str> = config.signin.as_ref().unwrap().scopes.iter().map(crate::Scope::as_str).collect();
    assert_eq!(scopes, ["openid", "profile"]);
    good(&signin("client_secret = { env = \"S\" }\nscopes = [\"openid\"]"));
    assert_eq!(code(&signin("scopes = [\"profile\"]")), "bad_value signin.scopes");
    assert_eq!(code(&signin("client_secret = \"hunter2\"")), "secret_literal signin.client_secret");
    assert_eq!(
        code(&signin("token_endpoint = \"https://id.example.com/t\"").replace("discovery = true", "jwks_file = \"j\"")),
        "conflict signin.token_endpoint"
    );
    let both = "authorization_endpoint = \"https://id.example.com/a\"\ntoken_endpoint = \"https://id.example.com/t\"";
    assert_eq!(code(&signin(both)), "conflict signin");
    let by_file = |text: String| text.replace("discovery = true", "jwks_file = \"j\"");
    good(&by_file(signin(both)));
    assert_eq!(code(&by_file(signin(""))), "missing_key signin.issuer");
    let inside = both.replace("https://id.example.com/t", "https://10.0.0.1/t");
    assert_eq!(code(&by_file(signin(&inside))), "bad_value signin.token_endpoint");
    good(&by_file(signin(&inside)).replace("jwks_file", "allow_private = true\njwks_file"));
    assert_eq!(code("[signin]\nissuer = \"crop\"\nclient_id = \"g\"\n"), "unknown_reference signin.issuer");
    let shared =
        "[[issuer]]\nname = \"node\"\nhs256_secret = { env = \"S\" }\n[signin]\nissuer = \"node\"\nclient_id = \"g\"\n";
    assert_eq!(code(shared), "conflict signin.issuer");
    assert_eq!(bad("[signin]\n").len(), 2);
}

#[test]
fn a_transmitter_has_one_source_of_keys_and_speaks_about_an_issuer() {
    let transmitter = |rest: &str| {
        format!(
            "{CORP}[[transmitter]]\nname = \"t\"\nissuer = \"https://id.example.com/\"\naudience = [\"a\"]\nsubjects = \"corp\"\n{rest}\n"
        )
    };
    good(&transmitter("discovery = true"));
    let config = good(&transmitter("jwks_url = \"https://id.example.com/jwks\"\nbearer = { env = \"T\" }"));
    assert_eq!(config.transmitters[0].algorithms().len(), 3);
    for (wrong, fault) in [
        ("", "missing_key transmitter[0]"),
        ("discovery = true\njwks_file = \"j\"", "conflict transmitter[0]"),
        ("jwks_url = \"http://127.0.0.1/j\"", "bad_value transmitter[0].jwks_url"),
        ("jwks_file = \"j\"\nalgorithms = [\"HS256\"]", "conflict transmitter[0].algorithms[0]"),
        ("jwks_file = \"j\"\nbearer = \"hunter2\"", "secret_literal transmitter[0].bearer"),
        ("jwks_file = \"j\"\nhs256_secret = { env = \"S\" }", "unknown_key transmitter[0].hs256_secret"),
    ] {
        assert_eq!(code(&transmitter(wrong)), fault, "{wrong}");
    }
    let good = transmitter("jwks_file = \"j\"");
    assert_eq!(
        code(&good.replace("subjects = \"corp\"", "subjects = \"crop\"")),
        "unknown_reference transmitter[0].subjects"
    );
    assert_eq!(
        code(&good.replace("audience = [\"a\"]\nsubjects", "audience = []\nsubjects")),
        "bad_value transmitter[0].audience"
    );
    let plain = transmitter("discovery = true")
        .replace("name = \"t\"\nissuer = \"https://id.example.com/\"", "name = \"t\"\nissuer = \"id\"");
    assert_eq!(code(&plain), "bad_value transmitter[0].issuer");
    let second = good.strip_prefix(CORP).unwrap().replace("name = \"t\"", "name = \"u\"");
    assert_eq!(code(&format!("{good}{second}")), "conflict transmitter[1].issuer");
    assert_eq!(code(&good.replace("name = \"t\"", "name = \"vouchgate\"")), "bad_value transmitter[0].name");
}

#[test]
fn lifetimes_fit_each_other() {
    good("[token]\nrefresh_grace = \"0s\"\nkey_lifetime = \"2d\"\nkey_publish = \"1d\"\n");
    for (wrong, fault) in [
        ("refresh_grace = \"61s\"", "bad_value token.refresh_grace"),
        ("refresh_idle = \"91d\"", "conflict token.refresh_idle"),
        ("key_lifetime = \"47h\"", "conflict token.key_publish"),
        ("code_ttl = \"11m\"", "bad_value token.code_ttl"),
        ("code_ttl = \"0s\"", "bad_value token.code_ttl"),
        ("device_ttl = \"1d\"", "bad_value token.device_ttl"),
        ("par_ttl = \"1s\"", "bad_value token.par_ttl"),
        ("refresh_life = \"1d\"", "unknown_key token.refresh_life"),
    ] {
        assert_eq!(code(&format!("[token]\n{wrong}\n")), fault, "{wrong}");
    }
    good("[dpop]\nnonce = \"optional\"\nmax_age = \"300s\"\nskew = \"0s\"\nreplay_entries = 1000\n");
    for (wrong, fault) in [
        ("nonce = \"never\"", "bad_value dpop.nonce"),
        ("max_age = \"301s\"", "bad_value dpop.max_age"),
        ("skew = \"2m\"", "bad_value dpop.skew"),
        ("replay_entries = 10", "bad_value dpop.replay_entries"),
    ] {
        assert_eq!(code(&format!("[dpop]\n{wrong}\n")), fault, "{wrong}");
    }
}

#[test]
fn a_policy_asks_for_proofs_by_name() {
    let policy = |rest: &str| format!("[[policy]]\nname = \"p\"\nmay = {{ models = \"*\" }}\n{rest}\n");
    let config = good(&policy("who = { bound = \"dpop\" }\nsingle_use = true\non_revocation = \"cut\""));
    assert_eq!(*config.policies[0].who.bound, [Bound::Dpop]);
    good(&policy("who = { bound = [\"dpop\", \"signature\"] }"));
    for (wrong, fault) in [
        ("who = { bound = \"jwt\" }", "bad_value policy[0].who.bound"),
        ("who = { bound = [\"dpop\", \"jwt\"] }", "bad_value policy[0].who.bound[1]"),
        ("who = { bound = [\"dpop\", \"dpop\"] }", "bad_value policy[0].who.bound[1]"),
        ("who = { bound = [] }", "bad_value policy[0].who.bound"),
        ("who = { bound = 1 }", "wrong_type policy[0].who.bound"),
        ("who = { key = \"k\", bound = \"dpop\" }", "conflict policy[0].who.bound"),
        ("who = { key = \"k\" }\nsingle_use = true", "conflict policy[0].single_use"),
        ("on_revocation = \"stop\"", "bad_value policy[0].on_revocation"),
    ] {
        assert_eq!(code(&policy(wrong)), fault, "{wrong}");
    }
}

#[test]
fn further_addresses_are_like_the_first() {
    let server = |rest: &str| format!("[server]\nexternal_url = \"https://a.example\"\n{rest}\n");
    good(&server("external_urls = [\"https://b.example\", \"https://c.example:8443\"]"));
    for (wrong, fault) in [
        ("external_urls = [\"https://b.example/\"]", "bad_value server.external_urls[0]"),
        ("external_urls = [\"https://b.example/x\"]", "bad_value server.external_urls[0]"),
        ("external_urls = [\"http://b.example\"]", "bad_value server.external_urls[0]"),
        ("external_urls = [\"https://a.example\"]", "bad_value server.external_urls[0]"),
        ("external_urls = [\"https://b.example\", \"https://b.example\"]", "bad_value server.external_urls[1]"),
    ] {
        assert_eq!(code(&server(wrong)), fault, "{wrong}");
    }
    assert_eq!(code("[server]\nexternal_urls = [\"https://b.example\"]\n"), "conflict server.external_urls");
}

proptest! {
    #[test]
    fn a_redirect_uri_never_matches_another_host(
        port in prop::option::of("[0-9]{0,6}"), odd in "[a-z0-9.:@/\\\\\\[\\]%?#-]{0,20}",
    ) {
        let uri: RedirectUri = "http://127.0.0.1:4000/cb".parse().unwrap();
        let presented = match &port {
            Some(port) => format!("http://127.0.0.1:{port}{odd}/cb"),
            None => format!("http://127.0.0.1{odd}/cb"),
        };
        if uri.matches(&presented) {
            let parsed = url::Url::parse(&presented).unwrap();
            prop_assert_eq!((parsed.scheme(), parsed.host_str(), parsed.path()), ("http", Some("127.0.0.1"), "/cb"));
            prop_assert!(parsed.query().is_none() && parsed.fragment().is_none() && parsed.username().is_empty());
        }
    }

    #[test]
    fn a_client_survives_toml(
        grants in prop::sample::subsequence(Grant::ALL.to_vec(), 0..=5), par in any::<bool>(), introspect in any::<bool>(),
    ) {
        let has = |grant| grants.contains(&grant);
        prop_assume!(!has(Grant::RefreshToken) || has(Grant::DeviceCode));
        let mut text = format!(
            "{CORP}{SIGNIN}{}grants = {:?}\nintrospect = {introspect}\n",
            client("auth = { method = \"private_key_jwt\", jwks_file = \"j\" }"),
            grants.iter().map(|grant| grant.as_str()).collect::<Vec<_>>()
        );
        if has(Grant::AuthorizationCode) {
            text += "redirect_uris = [\"http://127.0.0.1/cb\"]\n";
            text += if par { "require = [\"par\", \"dpop\"]\n" } else { "" };
        }
        if has(Grant::TokenExchange) {
            text += "exchange = [\"corp\"]\n";
        }
        let config = good(&text);
        prop_assert_eq!(config.clients[0].grants(), &grants[..]);
        prop_assert_eq!(good(&config.to_toml()), config);
    }
}

fn origins_of(server: &str, listening: &[&str]) -> Vec<String> {
    let config = crate::parse(&format!("[server]\n{server}")).expect("configuration");
    let listening: Vec<SocketAddr> = listening.iter().map(|address| address.parse().expect("address")).collect();
    config.server.origins(&listening)
}

#[test]
fn proofs_may_name_what_is_configured_and_otherwise_where_we_listen() {
    let urls = "external_url = \"https://ai.example.com\"\nexternal_urls = [\"https://alt.example.com:8443\"]\n";
    let named = ["https://ai.example.com", "https://alt.example.com:8443"];
    assert_eq!(origins_of(urls, &["127.0.0.1:8080"]), named, "and then nothing else");
    let loopback = ["http://127.0.0.1:8080", "http://localhost:8080"];
    assert_eq!(origins_of("", &["127.0.0.1:8080"]), loopback);
    assert_eq!(origins_of("", &["[::1]:9"]), ["http://[::1]:9", "http://localhost:9"]);
    assert_eq!(origins_of("", &["192.0.2.1:80"]), ["http://192.0.2.1:80"]);
    assert_eq!(origins_of("plain_http = true\n", &["0.0.0.0:9"]).first().expect("one"), "http://0.0.0.0:9");
}
