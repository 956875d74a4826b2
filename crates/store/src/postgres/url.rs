//! Where a PostgreSQL database is, and how the way there is protected.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use base::Secret;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::{Host, Url};

use crate::StoreError;

/// What the query of a URL may say. Anything else is refused rather than passed over: it may have been meant to protect.
const KNOWN: [&str; 8] = ["sslmode", "sslrootcert", "sslcert", "sslkey", "host", "user", "application_name", "options"];

/// A PostgreSQL database. Never shows its password.
#[derive(Clone)]
pub(crate) struct Server {
    text: Secret<String>,
    options: PgConnectOptions,
    shown: String,
    protected: bool,
    own_clock: bool,
}

impl Server {
    /// Read `postgres://USER[:PASSWORD]@HOST[:PORT]/DATABASE[?OPTIONS]`, or, for a local socket,
    /// `postgres:///DATABASE?host=/DIRECTORY&user=USER`.
    /// Without `sslmode` the server's certificate and name are verified (`verify-full`), except on this machine.
    pub(crate) fn parse(text: &str) -> Result<Self, StoreError> {
        let wrong = |why: &str| StoreError::Url(format!("{}://...: {why}", scheme(text)));
        let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
        let (mut socket, mut user) = (None, Some(url.username().to_owned()).filter(|user| !user.is_empty()));
        let (mut mode, mut root) = (None, false);
        for (key, value) in url.query_pairs() {
            match &*key {
                unknown if !KNOWN.contains(&unknown) => return Err(wrong(&format!("the option {key} is not known"))),
                "host" if value.starts_with('/') => socket = Some(value.into_owned()),
                "host" => {
                    return Err(wrong("write the host before the database; host= is for the directory of a socket"));
                }
                "user" if user.is_some() => return Err(wrong("it names two users")),
                "user" => user = Some(value.into_owned()),
                "sslmode" => mode = Some(value.into_owned()),
                "sslrootcert" => root = true,
                _ => {}
            }
        }
        let Some(user) = user else { return Err(wrong("it names no user")) };
        if url.path().trim_start_matches('/').is_empty() {
            return Err(wrong("it names no database"));
        }
        let host = url.host_str().filter(|host| !host.is_empty());
        let local = match (&socket, host) {
            (Some(_), _) => true,
            (None, None) => return Err(wrong("it names no host")),
            (None, Some(host)) => is_this_machine(&url, host),
        };
        let mut options = PgConnectOptions::from_str(text).map_err(|error| wrong(&error.to_string()))?;
        if mode.is_none() {
            let chosen = if socket.is_some() {
                PgSslMode::Disable
            } else if local && !root {
                PgSslMode::Prefer
            } else {
                PgSslMode::VerifyFull
            };
            options = options.ssl_mode(chosen);
        }
        if url.query_pairs().all(|(key, _)| key != "application_name") {
            options = options.application_name("vouchgate");
        }
        let protected = local || matches!(mode.as_deref(), None | Some("verify-full" | "verify-ca"));
        let place = socket.as_deref().or(host).unwrap_or_default();
        let shown = format!("postgres://{user}@{place}{}", url.path());
        Ok(Self { text: Secret::new(text.to_owned()), options, shown, protected, own_clock: true })
    }

    pub(crate) fn with_node_clock(self) -> Self {
        Self { own_clock: false, ..self }
    }

    /// Whether the moment is asked of the server where nodes must agree on it.
    pub(crate) const fn has_own_clock(&self) -> bool {
        self.own_clock
    }

    pub(crate) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Whether what passes on the way cannot be read or changed: it stays on this machine, or the server is verified.
    pub(crate) const fn is_protected(&self) -> bool {
        self.protected
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.shown).finish()
    }
}

impl PartialEq for Server {
    fn eq(&self, other: &Self) -> bool {
        self.text.expose() == other.text.expose()
    }
}

impl Eq for Server {}

/// For an error: never more than the scheme, since a password may stand anywhere in a URL that cannot be read.
fn scheme(text: &str) -> &'static str {
    if text.starts_with("postgresql:") { "postgresql" } else { "postgres" }
}

fn is_this_machine(url: &Url, host: &str) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        // Of a scheme it does not know, the parser leaves addresses unread.
        _ => host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mode(text: &str) -> PgSslMode {
        Server::parse(text).unwrap().options.get_ssl_mode()
    }

    #[test]
    fn a_server_elsewhere_is_verified_unless_the_url_says_otherwise() {
        assert!(matches!(mode("postgres://u:p@db.example.com/v"), PgSslMode::VerifyFull));
        assert!(matches!(mode("postgresql://u@10.0.0.1:6432/v"), PgSslMode::VerifyFull));
        assert!(matches!(mode("postgres://u@localhost.example.com/v"), PgSslMode::VerifyFull));
        assert!(matches!(mode("postgres://u@db/v?sslmode=disable"), PgSslMode::Disable));
        for local in ["postgres://u@localhost/v", "postgres://u@127.0.0.1/v", "postgres://u@[::1]:5433/v"] {
            assert!(matches!(mode(local), PgSslMode::Prefer), "{local}");
        }
        assert!(matches!(mode("postgres://u@localhost/v?sslrootcert=/ca.pem"), PgSslMode::VerifyFull));
        assert!(matches!(mode("postgres:///v?host=/run/postgresql&user=u"), PgSslMode::Disable));
    }

    #[test]
    fn a_url_without_protection_is_known() {
        let protected = |text: &str| Server::parse(text).unwrap().is_protected();
        assert!(protected("postgres://u@db/v") && protected("postgres://u@localhost/v?sslmode=disable"));
        assert!(!protected("postgres://u@db/v?sslmode=require") && !protected("postgres://u@db/v?sslmode=prefer"));
    }

    #[test]
    fn nothing_shows_the_password() {
        for text in [
            "postgres://u:hunter2@db/v",
            "postgres://u:hunter2@db/v?colour=green",
            "postgres://u:hunter2@db",
            "postgres://u:hunter2@db:notaport/v",
            "postgres://u:hunter2@db/v?sslmode=never",
        ] {
            let shown = match Server::parse(text) {
                Ok(server) => format!("{server} {server:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for text in [
            "postgres://",
            "postgres://db/v",
            "postgres://u@db",
            "postgres://u@/v",
            "postgres://u@db/v?sslmod=disable",
            "postgres://u@db/v?host=other",
            "postgres://u@db/v?user=other",
            "postgres:///v?host=/run/postgresql",
            "postgres://u@db/v?sslmode=never",
        ] {
            assert_eq!(Server::parse(text).err().map(|error| error.reason()), Some("store_url"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_server_or_an_error(text in "postgres(ql)?://.{0,60}") {
            let _ = Server::parse(&text);
        }
    }
}
