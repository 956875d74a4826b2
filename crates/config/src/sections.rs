//! The sections of the file: `[server]`, `[limits]`, `[cors]`, `[store]`, `[vault]`, `[log]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use base::{ByteSize, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::HostPattern;
use crate::secret_ref::SecretRef;
use crate::text::{SizeText, SpanText};
use crate::values::{Cidr, HeaderName, HttpUrl, Origin, SharedUrl, StoreUrl};

/// `[server]`: where Vouchgate listens and what it calls itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// The public listener: data plane, OAuth, `/.well-known/*`, `/livez`, `/readyz`. Port 0 takes a free one.
    #[schemars(extend("x-kind" = "listen"))]
    pub listen: SocketAddr,
    /// The admin listener: `/admin/v1/*`, `/metrics`, detailed `/readyz`.
    #[schemars(extend("x-kind" = "listen"))]
    pub admin_listen: SocketAddr,
    /// The URL clients use: what tokens name as audience. Absent: the bound address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_url: Option<HttpUrl>,
    /// Further URLs under which clients reach us: proofs may name them, tokens never do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub external_urls: Vec<HttpUrl>,
    /// Addresses whose `X-Forwarded-For`, `Forwarded` and `Client-Cert` are believed. Nobody's by default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<Cidr>,
    /// The header in which they say the JA4 fingerprint of the client's TLS greeting, where they end TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint_header: Option<HeaderName>,
    /// Where state is kept: store, master key, `admin.sock`. A relative path starts at the working directory.
    #[schemars(extend("x-kind" = "file-path"))]
    pub data_dir: PathBuf,
    /// TLS on the public listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// TLS on the admin listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_tls: Option<Tls>,
    /// Allow plain HTTP on addresses other than loopback: only behind something that adds TLS.
    pub plain_http: bool,
    /// Authorities of one's own, whose certificates are accepted from some hosts that are called, beside the public ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub upstream_ca: Vec<UpstreamCa>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            admin_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
            external_url: None,
            external_urls: Vec::new(),
            trusted_proxies: Vec::new(),
            fingerprint_header: None,
            data_dir: PathBuf::from("./vouchgate-data"),
            tls: None,
            admin_tls: None,
            plain_http: false,
            upstream_ca: Vec::new(),
        }
    }
}

impl Server {
    /// The origins that DPoP proofs and signed requests may name as their target: those that are configured, otherwise
    /// the addresses listened on, under their loopback names too. Never one that a request names by itself.
    pub fn origins(&self, listening: &[SocketAddr]) -> Vec<String> {
        let named = self.external_url.iter().chain(&self.external_urls);
        let named = named.map(|url| url.url().origin().ascii_serialization());
        if self.external_url.is_some() {
            return named.collect();
        }
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut origins = Vec::new();
        for address in listening {
            origins.push(format!("{scheme}://{address}"));
            let (ip, port) = (address.ip(), address.port());
            if ip.is_loopback() || ip.is_unspecified() {
                let own = if ip.is_ipv4() { "127.0.0.1" } else { "[::1]" };
                origins.extend([own, "localhost"].map(|host| format!("{scheme}://{host}:{port}")));
            }
        }
        origins.dedup();
        origins.extend(named);
        origins
    }
}

/// Authorities of one's own, and whose certificates they may make: of providers, upstreams, issuers, webhooks and whatever else is
/// called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamCa {
    /// Their certificates (PEM). Read again when it changes.
    #[schemars(extend("x-kind" = "file-path"))]
    pub file: PathBuf,
    /// From which hosts such certificates are accepted.
    #[schemars(length(min = 1, max = 64))]
    pub hosts: Vec<HostPattern>,
}

/// A certificate and its key, as PEM files. Both are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate chain, leaf first.
    #[schemars(extend("x-kind" = "file-path"))]
    pub cert: PathBuf,
    /// The private key.
    #[schemars(extend("x-kind" = "file-path"))]
    pub key: PathBuf,
    /// Certificates of the authorities whose client certificates are trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kind" = "file-path"))]
    pub client_ca: Option<PathBuf>,
    /// Which certificates clients may show. Absent: `ca` with `client_ca`, otherwise `off`. Read at start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificates: Option<ClientCertificates>,
}

impl Tls {
    /// Which certificates clients may show: what is said, or what `client_ca` implies.
    pub fn client_certificates(&self) -> ClientCertificates {
        let implied = if self.client_ca.is_some() { ClientCertificates::Ca } else { ClientCertificates::Off };
        self.client_certificates.unwrap_or(implied)
    }
}

/// Which certificates clients may show in the TLS handshake. None has to: what needs one is a client's or a policy's
/// matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// None is asked for.
    Off,
    /// Those that `client_ca` vouches for; others end the handshake.
    Ca,
    /// Any, also self-signed ones: that the client holds its key is always checked, and tokens can be bound to it. Only
    /// those that `client_ca` vouches for say who the client is.
    Any,
}

/// `[limits]`: every limit of the edge. The defaults are safe for the open internet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest request header section; beyond it 431.
    #[schemars(with = "SizeText")]
    pub header_bytes: ByteSize,
    /// Most request headers; beyond it 431.
    #[schemars(range(min = 10, max = 1000))]
    pub headers: u32,
    /// Longest request target; beyond it 414.
    #[schemars(with = "SizeText")]
    pub uri: ByteSize,
    /// Largest request body of the data plane; beyond it 413.
    #[schemars(with = "SizeText")]
    pub body: ByteSize,
    /// Largest request body of the endpoints that take files (audio to be written down, pictures to be changed), where that
    /// is more than `body`; beyond it 413.
    #[schemars(with = "SizeText")]
    pub upload: ByteSize,
    /// Largest request body of the OAuth endpoints.
    #[schemars(with = "SizeText")]
    pub token_body: ByteSize,
    /// Largest request body of the admin API.
    #[schemars(with = "SizeText")]
    pub admin_body: ByteSize,
    /// Largest provider answer that has to be held whole (not streamed); beyond it 502.
    #[schemars(with = "SizeText")]
    pub response_body: ByteSize,
    /// Longest credential.
    #[schemars(with = "SizeText")]
    pub token: ByteSize,
    /// Deepest nesting of a JSON request body.
    #[schemars(range(min = 8, max = 128))]
    pub json_depth: u32,
    /// Most values in a JSON request body.
    #[schemars(range(min = 100, max = 10_000_000))]
    pub json_nodes: u32,
    /// Time for the TLS handshake.
    #[schemars(with = "SpanText")]
    pub tls_handshake: Span,
    /// Time for a request's headers.
    #[schemars(with = "SpanText")]
    pub header_timeout: Span,
    /// Longest pause within a request body; then 408.
    #[schemars(with = "SpanText")]
    pub body_idle: Span,
    /// Longest time a client may take nothing of an answer that waits for it.
    #[schemars(with = "SpanText")]
    pub write_idle: Span,
    /// Most open connections on the public listener.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections: u32,
    /// Most open connections of one client address (of one /64 for IPv6).
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_per_address: u32,
    /// Most requests at once on one HTTP/2 connection.
    #[schemars(range(min = 1, max = 10_000))]
    pub streams_per_connection: u32,
    /// Time for a connection to a provider. A model's `timeout` may set its own.
    #[schemars(with = "SpanText")]
    pub connect: Span,
    /// Time until a provider's answer begins.
    #[schemars(with = "SpanText")]
    pub first_byte: Span,
    /// Longest pause within a provider's answer.
    #[schemars(with = "SpanText")]
    pub idle: Span,
    /// After SIGTERM: how long `/readyz` says no while connections are still accepted.
    #[schemars(with = "SpanText")]
    pub pre_stop: Span,
    /// After that: how long open answers may go on.
    #[schemars(with = "SpanText")]
    pub drain_timeout: Span,
    /// Most verified tokens remembered.
    #[schemars(range(min = 0, max = 10_000_000))]
    pub token_cache: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let (kib, mib) = (|n: u64| ByteSize::bytes(n << 10), |n: u64| ByteSize::bytes(n << 20));
        Self {
            header_bytes: kib(32),
            headers: 100,
            uri: kib(8),
            body: mib(10),
            upload: mib(32),
            token_body: kib(64),
            admin_body: kib(64),
            response_body: mib(32),
            token: kib(16),
            json_depth: 64,
            json_nodes: 100_000,
            tls_handshake: Span::secs(10),
            header_timeout: Span::secs(10),
            body_idle: Span::secs(30),
            write_idle: Span::secs(60),
            connections: 10_000,
            connections_per_address: 100,
            streams_per_connection: 100,
            connect: Span::secs(5),
            first_byte: Span::secs(120),
            idle: Span::secs(60),
            pre_stop: Span::secs(5),
            drain_timeout: Span::secs(30),
            token_cache: 10_000,
        }
    }
}

/// `[cors]`: web pages that may call the public listener. None by default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cors {
    /// Exact origins.
    pub origins: Vec<Origin>,
    /// How long a browser may remember the answer to a preflight.
    #[schemars(with = "SpanText")]
    pub max_age: Span,
}

impl Default for Cors {
    fn default() -> Self {
        Self { origins: Vec::new(), max_age: Span::secs(600) }
    }
}

/// `[store]`: where clients, keys, secrets and request records are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSection {
    /// `sqlite:` is a file in `data_dir`, `sqlite:PATH` another; `postgres://USER@HOST/DATABASE` is a database several nodes
    /// may use. With a password in it: `{ env = ... }` or `{ file = ... }`.
    pub url: StoreAddress,
    /// A Redis or Valkey server for what nodes share beside the database: used proofs, rates, requests at once. Only with a
    /// database on a server. Absent: used proofs are kept in the database, and each node counts by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared: Option<SharedAddress>,
    /// The certificates (PEM) that the server at `shared` is trusted by, with `rediss://`. Absent: those of this machine. For
    /// PostgreSQL they stand in the URL (`sslrootcert=FILE`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_ca: Option<PathBuf>,
    /// How long request records (never contents) are kept.
    #[schemars(with = "SpanText")]
    pub retention: Span,
    /// How long the sums of usage and cost by day are kept; those by hour at most 92 days of it.
    #[schemars(with = "SpanText")]
    pub usage_retention: Span,
}

impl Default for StoreSection {
    fn default() -> Self {
        Self {
            url: StoreAddress::Written(StoreUrl::Sqlite(None)),
            shared: None,
            shared_ca: None,
            retention: Span::secs(30 * 86_400),
            usage_retention: Span::secs(800 * 86_400),
        }
    }
}

/// Where the store lies, or where that is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum StoreAddress {
    /// As written.
    Written(StoreUrl),
    /// In the environment or in a file.
    Referred(SecretRef),
}

/// Where what nodes share lies, or where that is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SharedAddress {
    /// As written.
    Written(SharedUrl),
    /// In the environment or in a file.
    Referred(SecretRef),
}

/// `[vault]`: the key that seals all secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VaultSection {
    /// The master key. `master.key` lies in `data_dir`; any other file is taken as written. Never `{ secret = ... }`.
    pub key: SecretRef,
    /// Master keys that open what they sealed before, and seal nothing: the one before `key` while it is replaced, and the
    /// one after it until every node has it. Files, as `key` is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub older: Vec<SecretRef>,
}

impl Default for VaultSection {
    fn default() -> Self {
        Self { key: SecretRef::File(PathBuf::from("master.key")), older: Vec::new() }
    }
}

/// `[log]`: what is written to stderr. Never a secret, token or prompt, at any level.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// How much is logged.
    pub level: LogLevel,
    /// For people or for machines.
    pub format: LogFormat,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What failed and needs somebody.
    Error,
    /// And what may soon.
    Warn,
    /// And one line for each request.
    #[default]
    Info,
    /// And what decided it.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The level as a filter directive.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines to read.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}
