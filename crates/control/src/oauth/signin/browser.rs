//! One browser, told from all others by a cookie: who began a sign-in must be who ends it, and a form of ours is
//! answered only by who was shown it.

use aws_lc_rs::hmac;
use base::{Rng, Secret};
use http::{HeaderMap, HeaderValue, header};
use proof::jose::{base64url_decode, base64url_encode};

/// How long a browser keeps the cookie, in seconds: longer than any sign-in takes.
const MAX_AGE: u32 = 3600;

/// A browser: 256 random bits it alone holds. Everything a sign-in needs to be tied to it is derived from them, so that
/// nothing of it has to be kept here.
#[derive(Debug)]
pub(in crate::oauth) struct Browser(Secret<[u8; 32]>);

impl Browser {
    /// The browser of a request, if it has our cookie exactly once.
    pub(in crate::oauth) fn of(headers: &HeaderMap, secure: bool) -> Option<Self> {
        let name = cookie_name(secure);
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let mut values = pairs.filter(|(other, _)| *other == name).map(|(_, value)| value);
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let bytes = base64url_decode(value).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(|bytes| Self(Secret::new(bytes)))
    }

    /// One that was not here before.
    pub(in crate::oauth) fn new(rng: &dyn Rng) -> Self {
        let mut random = [0u8; 32];
        rng.fill(&mut random);
        Self(Secret::new(random))
    }

    /// The cookie. Over TLS no other host can set it (`__Host-`), and none but a visit of the person's own brings it along
    /// (`SameSite=Lax`).
    pub(in crate::oauth) fn cookie(&self, secure: bool) -> Option<HeaderValue> {
        let (name, value) = (cookie_name(secure), base64url_encode(self.0.expose()));
        let tls = if secure { "; Secure" } else { "" };
        let text = format!("{name}={value}; Path=/{tls}; HttpOnly; SameSite=Lax; Max-Age={MAX_AGE}");
        let mut header = HeaderValue::from_str(&text).ok()?;
        header.set_sensitive(true);
        Some(header)
    }

    /// What only this browser and we can tell about `of`, for this purpose: 43 characters.
    pub(in crate::oauth) fn derive(&self, purpose: &str, of: &str) -> String {
        base64url_encode(hmac::sign(&self.key(), &message(purpose, of)))
    }

    /// Whether `text` is what [`Browser::derive`] gives, in constant time.
    pub(in crate::oauth) fn derived(&self, purpose: &str, of: &str, text: &str) -> bool {
        let Some(tag) = base64url_decode(text) else { return false };
        hmac::verify(&self.key(), &message(purpose, of), &tag).is_ok()
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.0.expose())
    }
}

fn message(purpose: &str, of: &str) -> Vec<u8> {
    [purpose.as_bytes(), b"\0", of.as_bytes()].concat()
}

const fn cookie_name(secure: bool) -> &'static str {
    if secure { "__Host-vouchgate-browser" } else { "vouchgate-browser" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SystemRng;
    use proptest::prelude::*;

    fn sent(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_browser_is_known_again_by_its_cookie_and_by_nothing_else() {
        let browser = Browser::new(&SystemRng);
        let cookie = browser.cookie(true).unwrap();
        let cookie = cookie.to_str().unwrap();
        assert!(cookie.starts_with("__Host-vouchgate-browser=") && cookie.ends_with("; Max-Age=3600"), "{cookie}");
        for part in ["; Path=/;", "; Secure;", "; HttpOnly;", "; SameSite=Lax;"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        let pair = cookie.split(';').next().unwrap();
        let again = Browser::of(&sent(&format!("a=b; {pair}; c=d")), true).unwrap();
        assert_eq!(again.derive("p", "x"), browser.derive("p", "x"));
        assert!(again.derived("p", "x", &browser.derive("p", "x")));
        assert!(
            !again.derived("q", "x", &browser.derive("p", "x")) && !again.derived("p", "y", &browser.derive("p", "x"))
        );

        assert!(Browser::of(&sent(&format!("{pair}; {pair}")), true).is_none(), "two are none");
        assert!(Browser::of(&sent(pair), false).is_none(), "over plain HTTP it has another name");
        assert!(Browser::of(&sent("__Host-vouchgate-browser=short"), true).is_none());
        assert!(Browser::of(&HeaderMap::new(), true).is_none());
        assert!(!browser.cookie(false).unwrap().to_str().unwrap().contains("Secure"));
    }

    proptest! {
        #[test]
        fn any_cookies_are_read_without_fault(text in "[ -~]{0,120}") {
            let _ = Browser::of(&sent(&text), true);
        }
    }
}
