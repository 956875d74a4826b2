//! Somebody between the app and the gateway, with a certificate that the phone trusts, against the built program.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;
use tempfile::TempDir;
use testkit::certs::{Authority, Identity};
use testkit::intercept::Intercept;
use tokio::net::TcpListener;
use vouchgate_client::app_config::public_key;
use vouchgate_client::attester::{AttestError, Attestation, Attester, Platform, Request};
use vouchgate_client::signer::{PublicJwk, Signer, SoftwareKey};
use vouchgate_client::simulator::Iphone;
use vouchgate_client::{Client, Memory, Options, Status, Volatile};

use super::{World, chat, read};
use crate::support::{command, run, secret_file};

/// A gateway with TLS whose keys apps are told, behind a name whose traffic goes through somebody.
pub(super) struct Line {
    pub(super) world: World,
    pub(super) genuine: Authority,
    /// What was put into the phone's trust.
    installed: Authority,
    between: Intercept,
    /// The gateway's certificate, and the root keys that are built into the app.
    files: TempDir,
    /// What the gateway is told it will show.
    pub(super) next: Identity,
}

impl Line {
    pub(super) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (genuine, installed) = (Authority::new(), Authority::new());
        let identity = genuine.server(&["localhost", "127.0.0.1"]);
        let files = tempfile::tempdir().unwrap();
        for name in ["root", "spare"] {
            let (code, jwk, said) = run(&["pins", "root", "new", "--out", &format!("{name}.pem")], files.path(), b"");
            assert_eq!(code, 0, "{said}");
            std::fs::write(files.path().join(format!("{name}.jwk")), jwk).unwrap();
        }
        secret_file(files.path(), "cert.pem", &identity.cert_pem);
        secret_file(files.path(), "key.pem", &identity.key_pem);
        let next = genuine.server(&["localhost", "127.0.0.1"]);
        secret_file(files.path(), "next.pem", &next.key_pem);
        let place = |text: &str| text.replace("DIR", files.path().to_str().unwrap());
        // The first URL, which tokens name, is not https: where it is, no app may trust the makers of simulated phones.
        let server = format!(
            "external_url = \"http://localhost:{port}\"\nexternal_urls = [\"https://localhost:{port}\"]\n\
             tls = {{ cert = \"DIR/cert.pem\", key = \"DIR/key.pem\" }}"
        );
        let told = "[app_config]\nroots = [\"DIR/root.jwk\", \"DIR/spare.jwk\"]\n\
                    [[pins]]\nname = \"api\"\nhost = \"localhost\"\nnext_file = \"DIR/next.pem\"";
        let world = World::with(&place(&server), &place(told)).await;
        let between = Intercept::at(listener, world.program.public, &genuine);
        let line = Self { world, genuine, installed, between, files, next };
        let key = command(line.world.path(), &["pins", "key"], b"");
        let args = ["pins", "delegate", "--root", "root.pem", "--days", "90"];
        let (code, delegation, said) = run(&args, line.files.path(), key.as_bytes());
        assert_eq!(code, 0, "{said}");
        command(line.world.path(), &["pins", "accept"], delegation.as_bytes());
        line.publish();
        line
    }

    /// Sign a newer configuration.
    pub(super) fn publish(&self) {
        command(self.world.path(), &["pins", "publish", "chat"], b"");
    }

    fn options(&self) -> Options {
        Options {
            extra_roots: vec![der(&self.genuine.pem()), der(&self.installed.pem())],
            ..Options::new(&format!("https://localhost:{}", self.between.address().port()), "chat")
        }
    }

    /// The same with pins, as an app has them that remembers what it was told.
    pub(super) fn pinned(&self, memory: &Arc<Volatile>) -> Options {
        let root = |name: &str| {
            let jwk: Value = serde_json::from_slice(&std::fs::read(self.files.path().join(name)).unwrap()).unwrap();
            public_key(&jwk).unwrap()
        };
        Options {
            config_roots: vec![root("root.jwk"), root("spare.jwk")],
            memory: Arc::clone(memory) as Arc<dyn Memory>,
            ..self.options()
        }
    }

    /// Put another certificate in the place of the one that is shown, and wait until it is.
    pub(super) async fn show(&self, identity: &Identity) {
        std::fs::write(self.files.path().join("cert.pem"), &identity.cert_pem).unwrap();
        std::fs::write(self.files.path().join("key.pem"), &identity.key_pem).unwrap();
        let wanted = der(&identity.cert_pem);
        let trust = self.genuine.client_config(None, &["http/1.1"]);
        let switched = async {
            loop {
                let tcp = tokio::net::TcpStream::connect(self.world.program.public).await.unwrap();
                let connector = tokio_rustls::TlsConnector::from(Arc::clone(&trust));
                let stream = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
                if stream.get_ref().1.peer_certificates().unwrap()[0].as_ref() == wanted {
                    return;
                }
            }
        };
        testkit::patiently("the other certificate to be shown", switched).await;
    }

    /// Tell the gateway which key comes after the one it shows.
    pub(super) fn comes_next(&self, identity: &Identity) {
        std::fs::write(self.files.path().join("next.pem"), &identity.key_pem).unwrap();
    }

    fn intercept(&self) {
        self.between.intercept(&self.installed.server(&["localhost"]));
    }
}

pub(super) fn der(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_pins_the_app_says_nothing_to_somebody_between() {
    let line = Line::new().await;
    let memory: Arc<Volatile> = Arc::default();
    let device = Arc::new(line.world.iphone());
    let client = Client::new(line.pinned(&memory), Arc::clone(&device) as _).unwrap();
    assert_eq!(client.send(chat("vouchgate/echo")).await.unwrap().status, 200);
    assert_eq!(client.config().unwrap().hosts[0].pins.len(), 2, "the key in use and the next one");
    line.intercept();
    for memory in [memory, Arc::default()] {
        let client = Client::new(line.pinned(&memory), Arc::clone(&device) as _).unwrap();
        let error = client.send(chat("vouchgate/echo")).await.unwrap_err();
        assert_eq!(error.status(), Status::MitmDetected);
        assert!(client.take_pin_reports()[0].refused);
    }
    let paths: Vec<String> = line.between.overheard().iter().map(|one| one.path.clone()).collect();
    assert!(paths.iter().all(|path| path.starts_with("/.well-known/gateway-config/")), "{paths:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_between_cannot_roll_the_configuration_back() {
    const PATH: &str = "/.well-known/gateway-config/chat";
    let line = Line::new().await;
    line.intercept();
    let memory: Arc<Volatile> = Arc::default();
    let client = Client::new(line.pinned(&memory), Arc::new(line.world.iphone())).unwrap();
    let first = client.update_config().await.unwrap().seq;
    let overheard = line.between.overheard().into_iter().find(|one| one.path == PATH).unwrap();
    let (status, old) = line.between.send(&overheard).await;
    assert_eq!(status, 200);
    line.publish();
    assert_eq!(client.update_config().await.unwrap().seq, first + 1);
    line.between.answer(PATH, old);
    assert_eq!(client.update_config().await.unwrap_err().reason(), "config_rolled_back");
    let again = Client::new(line.pinned(&memory), Arc::new(line.world.iphone())).unwrap();
    assert_eq!(again.update_config().await.unwrap_err().reason(), "config_rolled_back");
    assert_eq!(again.config().unwrap().seq, first + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_pins_somebody_between_reads_but_neither_changes_nor_replays() {
    let line = Line::new().await;
    line.intercept();
    let iphone = Arc::new(Mutex::new(line.world.iphone()));
    let client = Client::new(line.options(), Arc::new(Changing(Arc::clone(&iphone)))).unwrap();
    let (status, said) = read(client.send(chat("vouchgate/echo")).await.unwrap()).await;
    assert_eq!(status, 200, "{said}");
    let heard = line.between.overheard();
    let chat_heard = heard.iter().find(|one| one.path == "/v1/chat/completions").unwrap();
    assert!(String::from_utf8_lossy(&chat_heard.body).contains("Hello"), "it can be read");
    assert_eq!(line.between.send(chat_heard).await.0, 401, "it cannot be sent again");
    let enrolled = heard.iter().find(|one| one.path == "/attest/v1/enroll").unwrap();
    assert_eq!(line.between.send(enrolled).await.0, 401, "nor can an enrolment");
    // Changed on its way, it is refused; the client tries once more with another token and gives up.
    line.between.alter(|one| {
        if one.path == "/v1/chat/completions" {
            let text = String::from_utf8_lossy(&one.body).replace("Hello", "Goodbye");
            one.body = Bytes::from(text);
        }
    });
    assert_eq!(client.send(chat("vouchgate/echo")).await.unwrap().status, 401);
    line.between.alter(|one| one.path = one.path.replace("/v1/chat/completions", "/v1/chat/completions?x=1"));
    assert_eq!(client.send(chat("vouchgate/echo")).await.unwrap().status, 401);
    // Theirs put in place of the app's key at an enrolment.
    let own = SoftwareKey::generate().unwrap().public_jwk().to_json();
    line.between.alter(move |one| {
        if one.path == "/attest/v1/enroll" {
            let mut body: Value = serde_json::from_slice(&one.body).unwrap();
            body["jwk"] = own.clone();
            one.body = Bytes::from(body.to_string());
        }
    });
    let other = Client::new(line.options(), Arc::new(line.world.iphone())).unwrap();
    assert_eq!(other.ready().await.unwrap_err().status(), Status::Rejected);
    line.between.leave_as_is();
    assert_eq!(client.send(chat("vouchgate/echo")).await.unwrap().status, 200);
    // The app is changed (its pins taken out, say): what it is made of is in the next refresh.
    iphone.lock().unwrap().app_id = "ZZZZZ99999.com.example.chat".to_owned();
    let error = client.refresh().await.unwrap_err();
    assert_eq!(error.status(), Status::Rejected);
    line.world.refused_for(&error, "app_id_mismatch");
}

/// A phone whose app can be changed while it runs.
struct Changing(Arc<Mutex<Iphone>>);

impl Attester for Changing {
    fn platform(&self) -> Platform {
        Platform::Ios
    }

    fn new_key(&self) -> Result<Option<Arc<dyn Signer>>, AttestError> {
        self.0.lock().unwrap().new_key()
    }

    fn attest(&self, request: &Request<'_>, key: Option<Arc<dyn Signer>>) -> Result<Attestation, AttestError> {
        self.0.lock().unwrap().attest(request, key)
    }

    fn assert(&self, client_data: &[u8]) -> Result<Option<Vec<u8>>, AttestError> {
        self.0.lock().unwrap().assert(client_data)
    }

    fn key(&self, public: &PublicJwk) -> Option<Arc<dyn Signer>> {
        self.0.lock().unwrap().key(public)
    }
}
