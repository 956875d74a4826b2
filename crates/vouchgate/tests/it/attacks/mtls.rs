//! Tokens bound to a client certificate (RFC 8705 section 3): shown with another certificate, with none, with one that
//! only a header claims.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::{FakeClock, SystemClock};
use serde_json::{Value, json};
use testkit::certs::{Authority, Identity};
use testkit::dpop::Holder;
use testkit::idp::Idp;
use testkit::keys::TestKey;
use testkit::mock::Mock;
use testkit::raw::{self, Connection, Response};

use super::{AUD, chat_answer, question};
use crate::caller::{PATH, bound_to, challenges};
use crate::support::{APP, Gateway, provider, secret_file};

/// A gateway that asks its callers for certificates, or is behind something that did.
struct World {
    gateway: Gateway,
    authority: Authority,
    idp: Idp,
    provider: Mock,
    key: TestKey,
}

/// `[server]` with TLS and the authority whose client certificates are accepted.
fn tls(dir: &Path, authority: &Authority, certificates: &str) -> String {
    let identity = authority.server(&["localhost"]);
    std::fs::write(dir.join("cert.pem"), &identity.cert_pem).unwrap();
    std::fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    let key = secret_file(dir, "tls.key", &identity.key_pem);
    let path = |name: &str| dir.join(name).display().to_string();
    format!(
        "external_url = \"https://localhost\"\ntls = {{ cert = {:?}, key = {:?}, client_ca = {:?}, client_certificates = \"{certificates}\" }}\n",
        path("cert.pem"),
        key.display().to_string(),
        path("ca.pem")
    )
}

impl World {
    /// Its own TLS.
    async fn start() -> Self {
        let authority = Authority::new();
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let server = tls(dir.path(), &authority, "ca");
        Self::start_in(dir, authority, &server, "").await
    }

    /// Its own TLS, where anybody may show any certificate, and more sections.
    async fn start_for_any(dir: Arc<tempfile::TempDir>, authority: Authority, more: &str) -> Self {
        let server = tls(dir.path(), &authority, "any");
        Self::start_in(dir, authority, &server, more).await
    }

    /// Behind a proxy on loopback that ends TLS, believed or not.
    async fn behind(trusted: &str) -> Self {
        let server = format!("external_url = \"https://ai.example.com\"\n{trusted}");
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), Authority::new(), &server, "").await
    }

    async fn start_in(dir: Arc<tempfile::TempDir>, authority: Authority, server: &str, more: &str) -> Self {
        let key = TestKey::generate("ES256");
        let idp = Idp::start(&[&key]).await;
        let prov = Mock::start_with(|_| chat_answer()).await;
        let secret = secret_file(dir.path(), "provider.key", "fake-key-of-the-provider");
        let config = format!(
            "{server}\n{APP}\n[[issuer]]\nname = \"corp\"\nissuer = \"{}\"\naudience = [\"{AUD}\"]\njwks_url = \"{}\"\nallow_private = true\n\
             {}\n[[policy]]\nname = \"guests\"\nwho = {{ issuer = \"corp\", bound = [\"mtls\"] }}\nmay = {{ models = [\"*\"] }}\n{more}",
            idp.issuer(),
            idp.jwks_url(),
            provider("prov", "openai-compatible", &format!("{}/v1", prov.url()), &secret),
        );
        let gateway = Gateway::start_at(dir, &config, FakeClock::at(base::Clock::now(&SystemClock)), None).await;
        Self { gateway, authority, idp, provider: prov, key }
    }

    /// A token with this `cnf`.
    fn token(&self, cnf: &Value) -> String {
        let now = base::Clock::now(&self.gateway.clock).as_secs();
        let mut claims = json!({"iss": self.idp.issuer(), "sub": "user-1", "aud": AUD, "client_id": "web", "scope": "chat",
            "iat": now, "exp": now + 300, "jti": testkit::dpop::random()});
        if !cnf.is_null() {
            claims["cnf"] = cnf.clone();
        }
        self.key.mint(&claims)
    }

    /// Ask a question over TLS, showing this certificate.
    async fn ask(&self, identity: Option<&Identity>, headers: &[(&str, &str)]) -> Result<Response, std::io::Error> {
        let headers = [headers, &[("content-type", "application/json")]].concat();
        self.post(identity, (PATH, &headers), question().to_string().as_bytes()).await
    }

    /// Ask the token endpoint over TLS, showing this certificate.
    async fn token_for(&self, identity: Option<&Identity>, client: &str, headers: &[(&str, &str)]) -> Response {
        let headers = [headers, &[("content-type", "application/x-www-form-urlencoded")]].concat();
        let form = format!("grant_type=client_credentials&client_id={client}");
        self.post(identity, ("/oauth/token", &headers), form.as_bytes()).await.unwrap()
    }

    async fn post(
        &self,
        identity: Option<&Identity>,
        (path, headers): (&str, &[(&str, &str)]),
        body: &[u8],
    ) -> Result<Response, std::io::Error> {
        let config = self.authority.client_config(identity, &[]);
        let mut connection = Connection::open_tls(self.gateway.public, "localhost", config).await?;
        connection.request("POST", path, headers, body).await;
        // In TLS 1.3 a client hears of a refused certificate only when it reads.
        connection.try_response().await.ok_or_else(|| std::io::Error::other("closed"))
    }

    async fn bearer(&self, identity: Option<&Identity>, token: &str) -> Response {
        self.ask(identity, &[("authorization", &format!("Bearer {token}"))]).await.unwrap()
    }

    /// Refused as `invalid_token`, unheard by the provider.
    fn refused(&self, what: &str, before: usize, answer: &Response) {
        assert_eq!(answer.status(), 401, "{what}: {}", answer.text());
        assert!(challenges(answer).contains("error=\"invalid_token\""), "{what}: {:?}", answer.head);
        assert_eq!(self.provider.count(), before, "{what}: the provider was asked");
    }
}

#[tokio::test]
async fn a_37_the_right_token_with_the_wrong_certificate_or_none() {
    let world = World::start().await;
    let owner = world.authority.client("batch");
    let bound = world.token(&json!({"x5t#S256": owner.thumbprint()}));
    let good = world.bearer(Some(&owner), &bound).await;
    assert_eq!(good.status(), 200, "{}", good.text());
    let before = world.provider.count();
    for (what, identity) in [
        ("no certificate", None),
        ("another of the same authority", Some(world.authority.client("batch"))),
        ("one of another name", Some(world.authority.client("other"))),
    ] {
        world.refused(what, before, &world.bearer(identity.as_ref(), &bound).await);
    }
    for (what, cnf) in [
        ("an unbound token", Value::Null),
        ("text", json!({"x5t#S256": "abc"})),
        ("SHA-1", json!({"x5t": owner.thumbprint()})),
        ("upper case", json!({"x5t#S256": owner.thumbprint().to_uppercase()})),
        ("padded", json!({"x5t#S256": format!("{}=", owner.thumbprint())})),
        ("a list", json!({"x5t#S256": [owner.thumbprint()]})),
    ] {
        world.refused(what, before, &world.bearer(Some(&owner), &world.token(&cnf)).await);
    }
    // The header of a proxy says nothing to who ends TLS himself.
    let header = owner.client_cert_header();
    let bearer = format!("Bearer {bound}");
    for name in ["client-cert", "x-forwarded-client-cert", "x-ssl-client-cert", "x-client-cert", "ssl-client-cert"] {
        let headers = [("authorization", bearer.as_str()), (name, header.as_str())];
        world.refused(name, before, &world.ask(None, &headers).await.unwrap());
        let thief = world.authority.client("thief");
        world.refused(name, before, &world.ask(Some(&thief), &headers).await.unwrap());
    }
    assert_eq!(world.bearer(Some(&owner), &bound).await.status(), 200, "the next good request");
}

#[tokio::test]
async fn a_37_a_certificate_without_its_key_or_its_authority() {
    let world = World::start().await;
    let owner = world.authority.client("batch");
    let bound = world.token(&json!({"x5t#S256": owner.thumbprint()}));
    let bearer = format!("Bearer {bound}");
    let headers = [("authorization", bearer.as_str())];
    let before = world.provider.count();
    // The certificate is public; the handshake is signed with a key, and that is checked.
    let stolen = world.authority.client("thief");
    let shown = Identity::self_signed("batch");
    for (what, identity) in [
        ("its key is another's", world.authority.client("batch").with_key_of(&stolen)),
        ("self-signed, with another's key", shown.with_key_of(&stolen)),
    ] {
        let answer = world.ask(Some(&identity), &headers).await;
        assert!(answer.is_err(), "{what}: {answer:?}");
    }
    // One nobody vouches for is refused with the handshake, or shown and not the one.
    for (what, identity) in
        [("self-signed", Identity::self_signed("batch")), ("of another authority", Authority::new().client("batch"))]
    {
        if let Ok(answer) = world.ask(Some(&identity), &headers).await {
            world.refused(what, before, &answer);
        }
    }
    assert_eq!(world.provider.count(), before);
    assert_eq!(world.bearer(Some(&owner), &bound).await.status(), 200, "the next good request");
}

#[tokio::test]
async fn a_37_bound_to_a_certificate_and_a_key() {
    let world = World::start().await;
    let owner = world.authority.client("batch");
    let holder = Holder::new("ES256");
    let mut cnf = bound_to(&holder);
    cnf["x5t#S256"] = json!(owner.thumbprint());
    let token = world.token(&cnf);
    let before = world.provider.count();
    let now = || base::Clock::now(&world.gateway.clock).as_secs();
    let proof = || holder.proof("POST", &format!("https://localhost{PATH}"), now()).token(&token);
    let credential = format!("DPoP {token}");
    let asked = world.ask(Some(&owner), &[("authorization", &credential), ("dpop", &proof().sign())]).await.unwrap();
    let nonce = crate::caller::challenged(&asked);
    let thief = world.authority.client("thief");
    for (what, identity) in [("without the certificate", None), ("with another", Some(&thief))] {
        let proof = proof().nonce(&nonce).sign();
        let answer = world.ask(identity, &[("authorization", &credential), ("dpop", &proof)]).await.unwrap();
        world.refused(what, before, &answer);
    }
    world.refused("without the proof", before, &world.bearer(Some(&owner), &token).await);
    let proof = proof().nonce(&nonce).sign();
    let both = world.ask(Some(&owner), &[("authorization", &credential), ("dpop", &proof)]).await.unwrap();
    assert_eq!(both.status(), 200, "{}", both.text());
}

#[tokio::test]
async fn a_37_a_certificate_that_a_header_claims() {
    let owner = Authority::new().client("batch");
    let header = owner.client_cert_header();
    let ask = async |world: &World, headers: &[(&str, &str)]| {
        let bearer = format!("Bearer {}", world.token(&json!({"x5t#S256": owner.thumbprint()})));
        let headers = [headers, &[("authorization", bearer.as_str()), ("content-type", "application/json")]].concat();
        raw::request(world.gateway.public, "POST", PATH, &headers, question().to_string().as_bytes()).await
    };
    // A hop that is not trusted, which is anybody.
    let world = World::behind("trusted_proxies = [\"10.1.2.3/32\"]").await;
    let before = world.provider.count();
    for name in ["client-cert", "Client-Cert", "x-forwarded-client-cert"] {
        world.refused(name, before, &ask(&world, &[(name, &header)]).await);
    }
    // The trusted hop: exactly one well-formed value.
    let world = World::behind("trusted_proxies = [\"127.0.0.1/32\"]").await;
    let good = ask(&world, &[("client-cert", &header)]).await;
    assert_eq!(good.status(), 200, "{}", good.text());
    assert!(world.provider.requests()[0].header("client-cert").is_none(), "the certificate stays here");
    let before = world.provider.count();
    let other = Authority::new().client("batch").client_cert_header();
    let two = format!("{header}, {other}");
    for (what, headers) in [
        ("another", vec![("client-cert", other.as_str())]),
        ("none", vec![]),
        ("two fields", vec![("client-cert", header.as_str()), ("client-cert", other.as_str())]),
        ("two values", vec![("client-cert", two.as_str())]),
        ("no colons", vec![("client-cert", header.trim_matches(':'))]),
        ("not DER", vec![("client-cert", ":AAAA:")]),
        ("another name", vec![("x-forwarded-client-cert", header.as_str())]),
    ] {
        let answer = ask(&world, &headers).await;
        assert!([400, 401].contains(&answer.status()), "{what}: {}", answer.text());
        assert_eq!(world.provider.count(), before, "{what}");
    }
    assert_eq!(ask(&world, &[("client-cert", &header)]).await.status(), 200, "the next good request");
}

/// Clients that say who they are with a certificate, and what they may.
fn certified_clients(dir: &Path, own: &[&Identity]) -> String {
    let pem: String = own.iter().map(|identity| identity.cert_pem.as_str()).collect();
    std::fs::write(dir.join("own.pem"), pem).unwrap();
    format!(
        "\n[[client]]\nname = \"named\"\nauth = {{ method = \"tls_client_auth\", subject_dn = \"CN=batch\" }}\nscopes = [\"chat\"]\nrequire = [\"mtls\"]\n\
         [[client]]\nname = \"owner\"\nauth = {{ method = \"self_signed_tls_client_auth\", certificate = {:?} }}\nscopes = [\"chat\"]\nrequire = [\"mtls\"]\n\n\
         [[policy]]\nname = \"certified\"\nwho = {{ issuer = \"vouchgate\", client = [\"named\", \"owner\"], bound = [\"mtls\"] }}\nmay = {{ models = [\"*\"] }}\n",
        dir.join("own.pem").display().to_string()
    )
}

#[tokio::test]
async fn a_37_a_client_that_is_known_by_its_certificate() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let (mine, renewed) = (Identity::self_signed("owner"), Identity::self_signed("owner"));
    let more = certified_clients(dir.path(), &[&mine, &renewed]);
    let authority = Authority::new();
    let (batch, batch_renewed) = (authority.client("batch"), authority.client("batch"));
    let other = authority.client("other");
    let world = World::start_for_any(dir, authority, &more).await;
    // Each with its own, old or new; the token is bound to the one that was shown.
    for (client, shown, another) in [("named", &batch, &batch_renewed), ("owner", &mine, &renewed)] {
        for shown in [shown, another] {
            let given = world.token_for(Some(shown), client, &[]).await;
            assert_eq!(given.status(), 200, "{client}: {}", given.text());
            assert_eq!(given.json()["token_type"], "Bearer");
            let token = given.json()["access_token"].as_str().unwrap().to_owned();
            let cnf = &testkit::keys::unverified(&token)["cnf"];
            assert_eq!(cnf["x5t#S256"], shown.thumbprint(), "{client}: {cnf}");
            assert_eq!(world.bearer(Some(shown), &token).await.status(), 200, "{client}");
            let before = world.provider.count();
            world.refused("stolen", before, &world.bearer(None, &token).await);
            world.refused("stolen", before, &world.bearer(Some(&other), &token).await);
        }
    }
    // What is no certificate of theirs, whatever name it bears or a header claims.
    let lookalike = Identity::self_signed("batch");
    let stranger = Authority::new().client("batch");
    let header = batch.client_cert_header();
    let spoofed = [("client-cert", header.as_str()), ("x-forwarded-client-cert", header.as_str())];
    for (what, client, identity, headers) in [
        ("none", "named", None, &[][..]),
        ("a header", "named", None, &spoofed),
        ("a header beside another's", "named", Some(&other), &spoofed),
        ("another name", "named", Some(&other), &[]),
        ("the name without the authority", "named", Some(&lookalike), &[]),
        ("the name by another authority", "named", Some(&stranger), &[]),
        ("none", "owner", None, &[]),
        ("another self-signed one", "owner", Some(&Identity::self_signed("owner")), &[]),
        ("one of the authority", "owner", Some(&batch), &[]),
    ] {
        // Long enough for nobody to be kept out because of those before.
        world.gateway.clock.advance(Duration::from_mins(30));
        let answer = world.token_for(identity, client, headers).await;
        assert_eq!(answer.status(), 401, "{client}, {what}: {}", answer.text());
        assert_eq!(answer.json()["error"], "invalid_client", "{client}, {what}: {}", answer.text());
    }
    assert_eq!(world.token_for(Some(&batch), "named", &[]).await.status(), 200, "the next good request");
}
