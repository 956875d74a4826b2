//! What can be wrong with an app on its own.

use base::Span;

use super::{between, destination, own_name, twice};
use crate::app::App;
use crate::fault::{Code, Faults};
use crate::resource::Alone;
use crate::values::HeaderName;
use crate::{AttestationLevel, EvidenceKind, PlayIntegrity, WebApp};

/// Headers that mean something to the gateway already.
const TAKEN: &[&str] = &[
    "authorization",
    "dpop",
    "x-api-key",
    "x-goog-api-key",
    "api-key",
    "x-portkey-api-key",
    "signature",
    "signature-input",
    "content-digest",
    "content-type",
    "content-length",
    "host",
    "cookie",
];

impl Alone for App {
    fn alone(&self, faults: &mut Faults) {
        own_name(self.name.as_str(), faults);
        let evidence = self.evidence();
        let shows_nothing = |web: &WebApp| web.altcha.is_none() && web.webauthn.is_none() && !web.has_captcha();
        if self.web.as_ref().is_some_and(shows_nothing) {
            let message = "nothing says what browsers prove themselves with";
            faults
                .add("web", Code::MissingKey, message)
                .hint("give altcha, turnstile, hcaptcha, recaptcha or webauthn");
        } else if evidence.is_empty() {
            faults
                .add("", Code::MissingKey, "nothing says what its installations prove themselves with")
                .hint("give ios, android, web, firebase or approov");
        }
        between(self.token_ttl, Span::secs(60), Span::secs(300), "token_ttl", faults);
        if let Some(after) = self.reattest_after {
            between(after, Span::secs(3600), Span::secs(90 * 86_400), "reattest_after", faults);
        }
        if let Some(level) = self.minimum_level {
            if level == AttestationLevel::None {
                faults
                    .add("minimum_level", Code::BadValue, "evidence that shows nothing would do")
                    .hint("web is the least");
            } else if !evidence.is_empty() && evidence.iter().all(|kind| strongest(*kind) < level) {
                let message = "none of the evidence listed can carry so far";
                faults.add("minimum_level", Code::Conflict, message);
            }
        }
        if let Some(header) = &self.user_token {
            user_token_alone(header, faults);
        }
        self.platforms_alone(faults);
    }
}

/// How far a kind of evidence can carry.
const fn strongest(kind: EvidenceKind) -> AttestationLevel {
    match kind {
        EvidenceKind::AppleAppAttest | EvidenceKind::AndroidKey => AttestationLevel::HwStrong,
        EvidenceKind::PlayIntegrity | EvidenceKind::Appcheck | EvidenceKind::Approov => AttestationLevel::Verdict,
        EvidenceKind::Webauthn
        | EvidenceKind::Altcha
        | EvidenceKind::Turnstile
        | EvidenceKind::Hcaptcha
        | EvidenceKind::Recaptcha => AttestationLevel::Web,
    }
}

fn user_token_alone(header: &HeaderName, faults: &mut Faults) {
    if TAKEN.contains(&header.as_str().to_ascii_lowercase().as_str()) {
        faults
            .add("user_token", Code::Conflict, "this header means something here already")
            .hint("choose a header of the app's own, such as X-User-Authorization");
    }
}

/// Tokens are opened in exactly one way.
fn play_alone(play: &PlayIntegrity, faults: &mut Faults) {
    const AT: &str = "android.play_integrity";
    let own = [play.decryption_key.is_some(), play.verification_key.is_some()];
    match (own, play.service_account.is_some()) {
        ([false, false], true) | ([true, true], false) => {}
        ([false, false], false) => {
            faults
                .add(AT, Code::MissingKey, "nothing opens its tokens")
                .hint("give decryption_key and verification_key, or service_account");
        }
        (_, true) => {
            faults
                .add(AT, Code::Conflict, "its tokens are opened in exactly one way")
                .hint("give decryption_key and verification_key, or service_account");
        }
        ([decryption, _], false) => {
            let missing = if decryption { "verification_key" } else { "decryption_key" };
            faults
                .add(AT, Code::MissingKey, format!("the key {missing} is missing"))
                .hint("the Play Console gives both under \"Manage and download my response encryption keys\"");
        }
    }
    if play.service_account.is_none() {
        let only_asked =
            [("standard", play.standard), ("url", play.url.is_some()), ("token_url", play.token_url.is_some())];
        for (key, _) in only_asked.into_iter().filter(|(_, given)| *given) {
            faults
                .add(format!("{AT}.{key}"), Code::Conflict, "nobody is asked")
                .hint("only service_account has Google open tokens")
                .at_key();
        }
    }
    for (key, url) in [("url", &play.url), ("token_url", &play.token_url)] {
        if let Some(url) = url {
            destination(url, play.allow_private, &format!("{AT}.{key}"), faults);
        }
    }
}

impl App {
    fn platforms_alone(&self, faults: &mut Faults) {
        if let Some(ios) = &self.ios {
            twice(&ios.environments, "ios.environments", faults);
            twice(&ios.categories, "ios.categories", faults);
            if let Some((ask, url)) = ios.fraud_metric.as_ref().and_then(|ask| Some((ask, ask.url.as_ref()?))) {
                destination(url, ask.allow_private, "ios.fraud_metric.url", faults);
            }
            if let Some((ask, url)) = ios.device_check.as_ref().and_then(|ask| Some((ask, ask.url.as_ref()?))) {
                destination(url, ask.allow_private, "ios.device_check.url", faults);
            }
        }
        if let Some(android) = &self.android {
            twice(&android.levels, "android.levels", faults);
            twice(&android.digests, "android.digests", faults);
            twice(&android.boot_keys, "android.boot_keys", faults);
            if let Some(play) = &android.play_integrity {
                play_alone(play, faults);
            }
        }
        if let Some(web) = &self.web {
            twice(&web.origins, "web.origins", faults);
            for (key, captcha) in
                [("turnstile", &web.turnstile), ("hcaptcha", &web.hcaptcha), ("recaptcha", &web.recaptcha)]
            {
                if let Some((captcha, url)) =
                    captcha.as_ref().and_then(|captcha| Some((captcha, captcha.url.as_ref()?)))
                {
                    destination(url, captcha.allow_private, &format!("web.{key}.url"), faults);
                }
            }
        }
        if let Some(firebase) = &self.firebase {
            if !firebase.project.bytes().all(|b| b.is_ascii_digit()) {
                faults
                    .add("firebase.project", Code::BadValue, "not the project's number")
                    .hint("it stands in the project settings");
            }
            if let Some(url) = &firebase.jwks_url {
                destination(url, firebase.allow_private, "firebase.jwks_url", faults);
            }
            if let Some(consume) = &firebase.consume {
                for (key, url) in [("url", &consume.url), ("token_url", &consume.token_url)] {
                    if let Some(url) = url {
                        destination(url, firebase.allow_private, &format!("firebase.consume.{key}"), faults);
                    }
                }
            }
        }
        if let Some(approov) = &self.approov
            && approov.secret.is_some() == approov.jwks_file.is_some()
        {
            let code = if approov.secret.is_some() { Code::Conflict } else { Code::MissingKey };
            faults.add("approov", code, "its tokens are verified in exactly one way").hint("give secret or jwks_file");
        }
        if let Some(roots) = &self.test_roots
            && roots.apple.is_none()
            && roots.android.is_none()
        {
            faults.add("test_roots", Code::MissingKey, "it names no root").hint("give apple or android");
        }
    }
}
