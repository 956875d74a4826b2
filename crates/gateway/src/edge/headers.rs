//! Header fields at the edge: which are refused, which never travel on, and who the client is behind trusted proxies.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use config::Cidr;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use proof::ja4::Ja4;
use proof::mtls::{CertificateError, parse_client_cert_header};

/// Whether a header name holds `_`: servers behind may read it as `-`, which would let `x_auth_user` pose as `x-auth-user`.
pub(crate) fn has_underscore(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().contains('_'))
}

/// Hop-by-hop fields (RFC 9110 section 7.6.1): they speak of one connection, not of the message.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    [
        header::CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ]
    .contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings" | "proxy-authentication-info")
}

/// Fields by which a client names itself to those who trust the hop before them: never believed, never passed on.
fn claims_identity(name: &str) -> bool {
    const PREFIXES: [&str; 25] = [
        "x-forwarded",
        "x-auth",
        "x-remote-",
        "x-user",
        "x-vouchgate-",
        "x-original-",
        "x-rewrite-",
        "x-envoy-",
        "x-amzn-",
        "x-ms-client-",
        "cf-",
        "remote-",
        "ssl-client-",
        "x-client-cert",
        "x-client-dn",
        "x-client-ip",
        "x-client-verify",
        "x-consumer-",
        "x-ja",
        "x-goog-authenticated-",
        "x-goog-iap-",
        "x-oidc-",
        "x-pomerium-",
        "x-ssl-",
        "x-webauth-",
    ];
    const NAMES: [&str; 8] = [
        "forwarded",
        "via",
        "x-real-ip",
        "true-client-ip",
        "client-cert",
        "client-cert-chain",
        "fastly-client-ip",
        "x-cluster-client-ip",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Fields that hold the caller's credential for this gateway, or prove that it is the caller's. A digest is part of the
/// proof: the body that is sent on may be another.
fn is_credential(name: &HeaderName) -> bool {
    [header::AUTHORIZATION, header::COOKIE].contains(name)
        || matches!(
            name.as_str(),
            "x-api-key"
                | "x-goog-api-key"
                | "api-key"
                | "x-portkey-api-key"
                | "dpop"
                | "signature"
                | "signature-input"
                | "content-digest"
                | "repr-digest"
        )
}

/// Fields by which some servers take a request for one of another method: the one that was allowed is the one that counts.
fn overrides_method(name: &str) -> bool {
    matches!(name, "x-http-method" | "x-http-method-override" | "x-method-override")
}

/// The fields of a request to a reverse-proxied API that may travel on: everything except what is hop-by-hop, named by
/// `Connection`, a credential, an identity claim, another method, or set anew for the next hop.
pub(crate) fn forwardable(headers: &HeaderMap) -> HeaderMap {
    let nominated = nominated(headers);
    let renewed = |name: &HeaderName| {
        [header::HOST, header::CONTENT_LENGTH, header::EXPECT, header::ORIGIN, header::REFERER].contains(name)
            || matches!(name.as_str(), "traceparent" | "tracestate" | "baggage" | "x-request-id")
            || name.as_str().starts_with("sec-")
            || name.as_str().starts_with("access-control-")
    };
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let dropped = is_hop_by_hop(name)
            || is_credential(name)
            || claims_identity(name.as_str())
            || overrides_method(name.as_str())
            || renewed(name)
            || nominated.iter().any(|other| other.eq_ignore_ascii_case(name.as_str()));
        if !dropped {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

/// The fields of an answer from a reverse-proxied API that reach the caller: cookies, hop-by-hop fields and what this
/// gateway decides for itself stay behind.
pub(crate) fn returnable(headers: &HeaderMap) -> HeaderMap {
    let nominated = nominated(headers);
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let text = name.as_str();
        let dropped = is_hop_by_hop(name)
            || [header::SET_COOKIE, header::CONTENT_LENGTH, header::SERVER, header::ALT_SVC, header::LOCATION]
                .contains(name)
            || matches!(
                text,
                "strict-transport-security" | "x-request-id" | "www-authenticate" | "x-powered-by" | "clear-site-data"
            )
            || text.starts_with("access-control-")
            // What a shared cache is told by others than us (RFC 9213 and its forerunners).
            || text.ends_with("-cache-control")
            || text == "surrogate-control"
            || nominated.iter().any(|other| other.eq_ignore_ascii_case(text));
        if !dropped {
            kept.append(name.clone(), value.clone());
        }
    }
    keep_private(&mut kept);
    kept
}

/// An answer to somebody who had to say who they are is nobody else's (RFC 9111 section 3.5): its upstream may know nothing of
/// that and call it public.
fn keep_private(headers: &mut HeaderMap) {
    let lines = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let directives = lines.flat_map(|line| line.split(',')).map(str::trim).filter(|directive| {
        let name = directive.split('=').next().unwrap_or_default().trim().to_ascii_lowercase();
        !matches!(name.as_str(), "" | "public" | "s-maxage" | "private")
    });
    let text = std::iter::once("private").chain(directives).collect::<Vec<_>>().join(", ");
    if headers.contains_key(header::CACHE_CONTROL)
        && let Ok(value) = HeaderValue::try_from(text)
    {
        headers.insert(header::CACHE_CONTROL, value);
    }
}

/// Names listed in `Connection`, which are hop-by-hop by nomination.
fn nominated(headers: &HeaderMap) -> Vec<&str> {
    let lists = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim).collect()
}

/// Whether the peer is a proxy whose word is believed.
pub(crate) fn is_trusted(peer: SocketAddr, trusted: &[Cidr]) -> bool {
    let peer = peer.ip().to_canonical();
    trusted.iter().any(|net| net.contains(peer))
}

/// The certificate (DER) that a trusted proxy says the client showed to it (RFC 9440). One field with one value; a second
/// may be the client's own.
pub(crate) fn client_cert(headers: &HeaderMap) -> Result<Option<Vec<u8>>, CertificateError> {
    let mut values = headers.get_all("client-cert").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(CertificateError::Header);
    }
    let value = value.to_str().map_err(|_| CertificateError::Header)?;
    parse_client_cert_header(value).map(Some)
}

/// The client's address: the peer's, or, when the peer is a trusted proxy, the last address in `X-Forwarded-For` (or
/// `Forwarded`, RFC 7239) that is not itself a trusted proxy. A proxy writes one of the two and may pass on what a client wrote
/// into the other: where both are there and say different things the address is the unspecified one, which no policy
/// allows by name.
pub(crate) fn client_ip(peer: SocketAddr, headers: &HeaderMap, trusted: &[Cidr]) -> IpAddr {
    let (trusts, peer) = (is_trusted(peer, trusted), peer.ip().to_canonical());
    if !trusts {
        return peer;
    }
    let told = |name| headers.contains_key(name).then(|| behind(peer, hops(headers, name), trusted));
    match (told("x-forwarded-for"), told("forwarded")) {
        (None, None) => peer,
        (Some(ip), None) | (None, Some(ip)) => ip,
        (Some(one), Some(other)) if one == other => one,
        (Some(_), Some(_)) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

/// The last address of the chain that is no trusted proxy.
fn behind(peer: IpAddr, hops: Vec<Option<IpAddr>>, trusted: &[Cidr]) -> IpAddr {
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|net| net.contains(*ip));
    let mut client = peer;
    for hop in hops.into_iter().rev() {
        // An unreadable hop ends the chain: what stands left of it was written by nobody we know.
        let Some(ip) = hop else { return client };
        client = ip;
        if !is_trusted(&client) {
            break;
        }
    }
    client
}

/// The JA4 fingerprint of the client's greeting: the connection's own, or, since that of a trusted proxy's connection is the
/// proxy's, the one it says in the header it is configured to say it in.
pub(crate) fn fingerprint(
    (peer, own): (SocketAddr, Option<&Arc<str>>),
    headers: &HeaderMap,
    (trusted, name): (&[Cidr], Option<&config::HeaderName>),
) -> Option<Arc<str>> {
    if !is_trusted(peer, trusted) {
        return own.map(Arc::clone);
    }
    let mut values = headers.get_all(name?.as_str()).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    Ja4::parse(value.to_str().ok()?).ok().map(|found| Arc::from(found.as_str()))
}

/// The chain of addresses the proxies wrote into this field, first client first; at most the last 32.
fn hops(headers: &HeaderMap, name: &str) -> Vec<Option<IpAddr>> {
    let read = if name == "forwarded" { forwarded_element } else { address };
    let lines = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let mut hops: Vec<Option<IpAddr>> = lines.flat_map(|line| line.split(',').map(read).collect::<Vec<_>>()).collect();
    hops.drain(..hops.len().saturating_sub(32));
    hops
}

/// The `for=` address of one `Forwarded` element.
fn forwarded_element(element: &str) -> Option<IpAddr> {
    let pair = element.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    })?;
    address(pair.trim().trim_matches('"'))
}

/// An address with or without port or brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let ip = text
        .parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())?;
    Some(ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn credentials_identity_claims_and_hop_by_hop_fields_do_not_travel_on() {
        let headers = map(&[
            ("authorization", "Bearer t"),
            ("cookie", "a=b"),
            ("x-api-key", "t"),
            ("dpop", "p"),
            ("signature", "gw=:AA==:"),
            ("signature-input", "gw=()"),
            ("content-digest", "sha-256=:AA==:"),
            ("host", "gate"),
            ("connection", "keep-alive, X-User-Token"),
            ("x-user-token", "x"),
            ("x-named", "kept"),
            ("x-goog-fieldmask", "kept"),
            ("x-client-info", "kept"),
            ("te", "trailers"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-auth-sub", "root"),
            ("remote-groups", "root"),
            ("x-webauth-user", "root"),
            ("x-goog-authenticated-user-email", "root"),
            ("x-consumer-username", "root"),
            ("x-client-ip", "127.0.0.1"),
            ("x-ssl-client-cert", "x"),
            ("x-http-method-override", "DELETE"),
            ("forwarded", "for=1.2.3.4"),
            ("client-cert", ":AA:"),
            ("client-cert-chain", ":AA:"),
            ("accept", "text/plain"),
            ("proxy-authorization", "Basic x"),
            ("upgrade", "websocket"),
        ]);
        let kept = forwardable(&headers);
        let mut names: Vec<&str> = kept.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "x-client-info", "x-goog-fieldmask", "x-named"]);
    }

    #[test]
    fn a_field_nominated_by_connection_does_not_travel_on() {
        let kept = forwardable(&map(&[("connection", "close, X-Tag"), ("x-tag", "1"), ("x-other", "2")]));
        assert_eq!(kept.len(), 1);
    }

    #[test]
    fn cookies_and_challenges_of_an_upstream_do_not_reach_the_caller() {
        let kept = returnable(&map(&[
            ("set-cookie", "a=b"),
            ("www-authenticate", "Basic"),
            ("etag", "x"),
            ("content-type", "a/b"),
        ]));
        assert_eq!(kept.len(), 2);
    }

    #[test]
    fn what_an_upstream_calls_public_is_kept_by_no_shared_cache() {
        let kept = |value| {
            let kept = returnable(&map(&[("cache-control", value), ("cdn-cache-control", "max-age=9")]));
            assert_eq!(kept.len(), 1);
            kept["cache-control"].to_str().expect("text").to_owned()
        };
        assert_eq!(kept("Public, max-age=60, S-MaxAge=600"), "private, max-age=60");
        assert_eq!(kept("no-store"), "private, no-store");
        assert!(returnable(&HeaderMap::new()).is_empty(), "then the edge says no-store");
    }

    #[test]
    fn the_fingerprint_of_a_greeting_is_believed_from_trusted_proxies_only_and_theirs_is_nobodys() {
        const ONE: &str = "t13d1516h2_8daaf6152771_e5627efa2ab1";
        let proxy: SocketAddr = "10.0.0.1:5".parse().expect("address");
        let outside: SocketAddr = "198.51.100.2:5".parse().expect("address");
        let trusted: Vec<Cidr> = vec!["10.0.0.0/8".parse().expect("network")];
        let name: config::HeaderName = "x-ja4".parse().expect("a header");
        let own: Arc<str> = Arc::from("own");
        let found = |peer, headers: &[(&'static str, &'static str)], name: Option<&config::HeaderName>| {
            fingerprint((peer, Some(&own)), &map(headers), (&trusted, name)).map(|found| found.to_string())
        };
        assert_eq!(found(outside, &[("x-ja4", ONE)], Some(&name)).as_deref(), Some("own"));
        assert_eq!(found(proxy, &[("x-ja4", ONE)], Some(&name)).as_deref(), Some(ONE));
        for said in [&[][..], &[("x-ja4", "odd")], &[("x-ja4", ONE), ("x-ja4", ONE)]] {
            assert_eq!(found(proxy, said, Some(&name)), None, "{said:?}");
        }
        assert_eq!(found(proxy, &[("x-ja4", ONE)], None), None);
        assert!(forwardable(&map(&[("x-ja4", ONE)])).is_empty(), "it goes no further");
    }

    #[test]
    fn forwarded_addresses_are_believed_from_trusted_proxies_only() {
        let peer: SocketAddr = "10.0.0.1:5".parse().expect("address");
        let trusted: Vec<Cidr> = vec!["10.0.0.0/8".parse().expect("network")];
        let forged = map(&[("x-forwarded-for", "6.6.6.6, 203.0.113.9, 10.0.0.7")]);
        let ip = |text: &str| text.parse::<IpAddr>().expect("address");
        assert_eq!(client_ip(peer, &forged, &trusted), ip("203.0.113.9"));
        assert_eq!(client_ip(peer, &forged, &[]), ip("10.0.0.1"));
        let outside: SocketAddr = "198.51.100.2:5".parse().expect("address");
        assert_eq!(client_ip(outside, &forged, &trusted), ip("198.51.100.2"));
        let rfc7239 = map(&[("forwarded", "for=\"[2001:db8::1]:80\";proto=https, for=10.0.0.9")]);
        assert_eq!(client_ip(peer, &rfc7239, &trusted), ip("2001:db8::1"));
        let both = map(&[("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=203.0.113.9")]);
        assert_eq!(client_ip(peer, &both, &trusted), ip("0.0.0.0"), "one of the two is the client's own");
        let alike = map(&[("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=203.0.113.9")]);
        assert_eq!(client_ip(peer, &alike, &trusted), ip("203.0.113.9"));
        let broken = map(&[("x-forwarded-for", "1.1.1.1, unknown, 10.0.0.7")]);
        assert_eq!(client_ip(peer, &broken, &trusted), ip("10.0.0.7"));
    }

    #[test]
    fn a_37_a_proxy_passes_on_one_certificate_and_no_more() {
        let one = map(&[("client-cert", ":AQID:")]);
        assert_eq!(client_cert(&one), Ok(Some(vec![1, 2, 3])));
        assert_eq!(client_cert(&HeaderMap::new()), Ok(None));
        let name = HeaderName::from_static("client-cert");
        for values in [vec![":AQID:", ":AQID:"], vec![":AQID:, :AQID:"], vec!["AQID"], vec![""]] {
            let headers: HeaderMap =
                values.iter().map(|v| (name.clone(), HeaderValue::from_str(v).expect("value"))).collect();
            assert!(client_cert(&headers).is_err(), "{values:?}");
        }
    }

    #[test]
    fn an_ipv4_mapped_peer_is_the_ipv4_address() {
        let peer: SocketAddr = "[::ffff:192.0.2.1]:5".parse().expect("address");
        assert_eq!(client_ip(peer, &HeaderMap::new(), &[]), "192.0.2.1".parse::<IpAddr>().expect("address"));
    }

    proptest! {
        #[test]
        fn any_forwarding_header_is_read_without_panic(line in "[ -~]{0,80}") {
            let mut headers = HeaderMap::new();
            headers.insert("forwarded", HeaderValue::from_str(&line).expect("visible"));
            let peer: SocketAddr = "10.0.0.1:5".parse().expect("address");
            client_ip(peer, &headers, &["10.0.0.0/8".parse().expect("network")]);
        }
    }
}
