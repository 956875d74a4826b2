//! Addresses, patterns and paths as the configuration writes them.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;

use crate::text::{ValueError, text_value};

/// An `http` or `https` URL without user, password, query or fragment. Keeps the text as written, because
/// what tokens name is compared byte by byte.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HttpUrl {
    text: String,
    url: url::Url,
}

text_value!(HttpUrl, "url", "An http or https URL without user, query and fragment.", "https://ai.example.com");

impl HttpUrl {
    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text as written, without slashes at its end.
    pub fn trimmed(&self) -> &str {
        self.text.trim_end_matches('/')
    }

    /// The parsed URL.
    pub fn url(&self) -> &url::Url {
        &self.url
    }

    /// Whether the scheme is `https`.
    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Whether the host is `localhost` or a literal loopback address.
    pub fn is_loopback(&self) -> bool {
        match self.url.host() {
            Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => canonical(IpAddr::V6(ip)).is_loopback(),
            None => false,
        }
    }

    /// Whether the host is a literal address that is not on the public internet. A name may still lead to
    /// one: that is checked when connecting.
    pub fn is_private_literal(&self) -> bool {
        let ip = match self.url.host() {
            Some(url::Host::Ipv4(ip)) => IpAddr::V4(ip),
            Some(url::Host::Ipv6(ip)) => IpAddr::V6(ip),
            Some(url::Host::Domain(_)) | None => return false,
        };
        match canonical(ip) {
            IpAddr::V4(ip) => {
                let [a, b, ..] = ip.octets();
                ip.is_private()
                    || ip.is_loopback()
                    || ip.is_link_local()
                    || ip.is_unspecified()
                    || (a == 100 && (64..128).contains(&b))
            }
            IpAddr::V6(ip) => {
                ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local()
            }
        }
    }
}

impl FromStr for HttpUrl {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.len() > 2048 {
            return Err(ValueError::new("a URL has at most 2048 characters"));
        }
        if text.bytes().any(|b| b.is_ascii_control() || b == b' ' || b == b'\\') {
            return Err(ValueError::new("a URL has no spaces, backslashes or control characters"));
        }
        let url = url::Url::parse(text).map_err(|e| {
            ValueError::new(format!("not a URL: {e}")).hint("write it out: \"https://host.example.com/path\"")
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ValueError::new("only http and https URLs are used").hint("begin with https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ValueError::new("a URL with a user or password in it")
                .hint("take it out; secrets are references: { env = \"NAME\" }"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(ValueError::new("a URL with a query or fragment").hint("leave out what follows ? or #"));
        }
        Ok(Self { text: text.to_owned(), url })
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A web origin as a browser sends it (RFC 6454 section 6.2): scheme, host and, unless it is the scheme's own, port.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Origin(String);

text_value!(Origin, "origin", "An exact web origin: scheme, host and port.", "https://app.example.com");

impl Origin {
    /// The origin as a browser sends it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        const HINT: &str = "write one exactly as the browser sends it: \"https://app.example.com\"";
        if text == "*" || text == "null" {
            return Err(ValueError::new(format!("\"{text}\" would let any web page in")).hint(HINT));
        }
        let url = HttpUrl::from_str(text).map_err(|_| ValueError::new("not an origin").hint(HINT))?;
        let origin = url.url.origin().ascii_serialization();
        if origin == text {
            Ok(Self(origin))
        } else {
            Err(ValueError::new("not in the form a browser sends").hint(format!("write \"{origin}\"")))
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The address an IPv4-mapped IPv6 address stands for; any other address itself. Whatever compares addresses
/// goes through here, so that `::ffff:10.0.0.1` is not a way round a rule about `10.0.0.1`.
pub fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// A range of IP addresses: `10.0.0.0/8`, or a single address. IPv4-mapped IPv6 ranges are held as IPv4.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr(IpNet);

text_value!(Cidr, "cidr", "A range of IP addresses, or one address.", "10.0.0.0/8");

impl Cidr {
    /// Whether the range holds `ip`, IPv4-mapped or not.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&canonical(ip))
    }
}

impl FromStr for Cidr {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || ValueError::new("not a range of IP addresses").hint("write \"10.0.0.0/8\" or \"2001:db8::/32\"");
        let net = if text.contains('/') {
            text.parse::<IpNet>().map_err(|_| wrong())?
        } else {
            IpNet::from(text.parse::<IpAddr>().map_err(|_| wrong())?)
        };
        let net = match (net.addr(), net.prefix_len().checked_sub(96)) {
            (IpAddr::V6(ip), Some(prefix)) => match ip.to_ipv4_mapped() {
                Some(ip) => IpNet::new(IpAddr::V4(ip), prefix).map_err(|_| wrong())?,
                None => net,
            },
            _ => net,
        };
        if net.trunc() != net {
            return Err(ValueError::new("the address has bits outside the range")
                .hint(format!("write \"{}\" for the range or leave out the slash for one address", net.trunc())));
        }
        Ok(Self(net))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            write!(f, "{}", self.0.addr())
        } else {
            write!(f, "{}", self.0)
        }
    }
}

/// A pattern over names: `*` stands for any run of characters, also none; everything else for itself.
/// Upper and lower case differ.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern(String);

text_value!(Pattern, "pattern", "A name, in which * stands for any run of characters.", "claude-*");

impl Pattern {
    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a plain name, without `*`.
    pub fn is_literal(&self) -> bool {
        !self.0.contains('*')
    }
}

impl FromStr for Pattern {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() || text.len() > 256 {
            return Err(ValueError::new("a pattern has 1 to 256 characters"));
        }
        if text.chars().any(char::is_control) {
            return Err(ValueError::new("a pattern has no control characters"));
        }
        if text.bytes().filter(|b| *b == b'*').count() > 8 {
            return Err(ValueError::new("a pattern has at most 8 stars"));
        }
        if let Some(odd) = text.chars().find(|c| "?[]{}^$()".contains(*c)) {
            return Err(ValueError::new(format!("\"{odd}\" has no meaning in a pattern"))
                .hint("only * is special: it stands for any run of characters"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `path` is in the one form that routes and rules know: `/` first, segments of
/// `A-Z a-z 0-9 - . _ ~ :` (and `*` where `star`), none empty, none `.` or `..`; a last `/` is allowed.
fn plain_path(path: &str, star: bool) -> Result<(), ValueError> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(ValueError::new("a path begins with /"));
    };
    if path.len() > 512 {
        return Err(ValueError::new("a path has at most 512 characters"));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/".contains(&b) || (star && b == b'*');
    if !path.bytes().all(allowed) {
        return Err(ValueError::new("a path holds letters, digits, - . _ ~ : and / only")
            .hint("no %-escapes, queries, spaces or semicolons"));
    }
    let body = rest.strip_suffix('/').unwrap_or(rest);
    if !body.is_empty() && body.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(ValueError::new("a path has no empty, . or .. segments"));
    }
    if body.is_empty() && rest == "/" {
        return Err(ValueError::new("a path has no empty, . or .. segments"));
    }
    Ok(())
}

/// A path a [`crate::Service`] or [`crate::Upstream`] declares, in normal form.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoutePath(String);

text_value!(RoutePath, "path", "A path in normal form.", "/v1/analyzing");

impl RoutePath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether everything below belongs to it: it ends with `/`.
    pub fn is_prefix(&self) -> bool {
        self.0.ends_with('/')
    }
}

impl FromStr for RoutePath {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        plain_path(text, false)?;
        if text == "/" {
            return Err(ValueError::new("the root belongs to Vouchgate").hint("give it a path of its own: \"/maps/\""));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for RoutePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pattern over paths, segment by segment: `*` stands for any run of characters within a segment, a segment
/// `**` for any number of segments, also none.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PathPattern(String);

text_value!(PathPattern, "path-pattern", "A path: * within a segment, ** for any segments.", "/v1/files/*");

impl PathPattern {
    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PathPattern {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        plain_path(text, true)?;
        if text.split('/').any(|s| s.contains("**") && s != "**") {
            return Err(ValueError::new("** stands alone between slashes").hint("write \"/v1/files/**\""));
        }
        if text.split('/').filter(|s| *s == "**").count() > 2 || text.bytes().filter(|b| *b == b'*').count() > 12 {
            return Err(ValueError::new("a path pattern has at most two ** and 12 stars"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request method: letters only, upper case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Method(String);

text_value!(Method, "method", "A request method.", "POST");

impl Method {
    /// The method as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Method {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" => Ok(Self(text.to_owned())),
            _ => Err(ValueError::new("not a method that is passed on")
                .hint("GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS, in upper case")),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a request header an [`crate::Upstream`] sets.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HeaderName(String);

text_value!(HeaderName, "header", "The name of a request header.", "X-Api-Key");

impl HeaderName {
    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HeaderName {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        const FRAMING: [&str; 12] = [
            "host",
            "content-length",
            "transfer-encoding",
            "connection",
            "te",
            "trailer",
            "upgrade",
            "keep-alive",
            "proxy-authorization",
            "proxy-connection",
            "expect",
            "content-type",
        ];
        if text.is_empty() || text.len() > 64 || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(ValueError::new("a header name is 1 to 64 letters, digits and hyphens"));
        }
        if FRAMING.contains(&text.to_ascii_lowercase().as_str()) {
            return Err(ValueError::new("this header belongs to the connection and cannot be set"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of an environment variable.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EnvName(String);

text_value!(EnvName, "env", "The name of an environment variable.", "OPENAI_API_KEY");

impl EnvName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EnvName {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut bytes = text.bytes();
        let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !first || text.len() > 128 || !bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(ValueError::new("not the name of an environment variable")
                .hint("letters, digits and _; the value itself belongs in the environment, not here"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for EnvName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the store lies: `sqlite:` (in the data directory), `sqlite:PATH`, or a PostgreSQL database.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum StoreUrl {
    /// A SQLite file; without a path, `vouchgate.db` in the data directory.
    Sqlite(Option<PathBuf>),
    /// A PostgreSQL database.
    Postgres(ServerUrl),
}

text_value!(
    StoreUrl,
    "store",
    "Where the store lies: sqlite: is in the data directory, postgres://USER@HOST/DATABASE on a server.",
    "sqlite:"
);

impl FromStr for StoreUrl {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.strip_prefix("sqlite:") {
            Some("") => Ok(Self::Sqlite(None)),
            Some(path) if !path.contains(['?', '#', '\0']) => Ok(Self::Sqlite(Some(PathBuf::from(path)))),
            Some(_) => Err(ValueError::new("a SQLite URL is sqlite: and a plain path, without options")),
            None if text.starts_with("postgres://") || text.starts_with("postgresql://") => {
                ServerUrl::new(text).map(Self::Postgres)
            }
            None => Err(ValueError::new("not a store").hint("write \"sqlite:\" or \"postgres://USER@HOST/DATABASE\"")),
        }
    }
}

/// Where what nodes share beside the database lies: `redis://`, `rediss://` (TLS) or `redis+unix://`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SharedUrl(ServerUrl);

text_value!(
    SharedUrl,
    "shared",
    "Where what nodes share beside the database lies: redis://HOST, rediss://HOST (TLS) or redis+unix://PATH.",
    "redis://127.0.0.1:6379"
);

impl SharedUrl {
    /// The URL, which may hold a password.
    pub fn url(&self) -> &ServerUrl {
        &self.0
    }
}

impl FromStr for SharedUrl {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let one = !text.rsplit('@').next().unwrap_or(text).contains(',');
        if one && ["redis://", "rediss://", "redis+unix://"].iter().any(|scheme| text.starts_with(scheme)) {
            return ServerUrl::new(text).map(Self);
        }
        if text.contains("cluster://") || text.contains("sentinel://") || !one {
            return Err(ValueError::new("Redis Cluster and Sentinel are not supported: the scripts need one server")
                .hint("name the one primary, or an address that follows it: \"redis://HOST:6379\""));
        }
        Err(ValueError::new("not a Redis server").hint("write \"redis://HOST:6379\" or \"rediss://HOST:6380\""))
    }
}

impl fmt::Display for SharedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The URL of a database server. Shown without its password.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ServerUrl(String);

impl ServerUrl {
    fn new(text: &str) -> Result<Self, ValueError> {
        // The parser's own words may repeat what it was given.
        let url = url::Url::parse(text).map_err(|_| ValueError::new("not a URL"))?;
        if url.password().is_some_and(|password| password.contains("***")) {
            return Err(ValueError::new("a password that was left out"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The whole URL, which may hold a password: never to be logged.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it holds a password, which belongs in the environment or a file instead.
    pub fn has_password(&self) -> bool {
        url::Url::parse(&self.0).is_ok_and(|url| url.password().is_some())
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match url::Url::parse(&self.0) {
            Ok(mut url) if url.password().is_some() => match url.set_password(Some("***")) {
                Ok(()) => write!(f, "{url}"),
                Err(()) => f.write_str("***"),
            },
            _ => f.write_str(&self.0),
        }
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(None) => f.write_str("sqlite:"),
            Self::Sqlite(Some(path)) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => write!(f, "{url}"),
        }
    }
}
