//! Google opens Play Integrity tokens, and uses App Check tokens up, for a service account that it has given an access token.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base::{Secret, Timestamp};
use config::HttpUrl;
use proof::attest::Summary;
use proof::attest::online::{
    AccessToken, AppCheckConsume, OnlineCheck, OnlineError, OnlineRequest, PlayDecode, ServiceAccount, TOKEN_URL,
};
use proof::jose::base64url_encode;

use super::{AskedError, ask};
use crate::apps::Apps;
use crate::apps::evidence::{Circumstances, play_rules, sha256};
use crate::apps::in_force::PlayOpener;
use crate::apps::refusal::{Action, Refused};

/// An access token is replaced so long before its end.
const BEFORE: Duration = Duration::from_mins(1);

/// Where Google is asked, and as whom.
#[derive(Debug)]
pub(crate) struct AskGoogle {
    account: ServiceAccount,
    /// What for.
    scope: &'static str,
    /// The origin.
    url: String,
    token_url: String,
    allow_private: bool,
    /// The access token, and until when it is shown.
    access: Mutex<Option<(Secret<String>, Timestamp)>>,
}

/// A question, as it is sent with an access token.
type Asked<'a> = dyn Fn(&Secret<String>) -> Result<OnlineRequest, OnlineError> + Send + Sync + 'a;

impl AskGoogle {
    /// As this account, for this scope at this origin, unless somewhere else is configured: origin, where access tokens come from, and
    /// whether those may be private.
    pub(crate) fn new(
        account: ServiceAccount,
        (scope, origin): (&'static str, &str),
        (url, token_url, allow_private): (Option<&HttpUrl>, Option<&HttpUrl>, bool),
    ) -> Self {
        let url = url.map_or(origin, |url| url.as_str().trim_end_matches('/')).to_owned();
        let token_url = token_url.map_or(TOKEN_URL, HttpUrl::as_str).to_owned();
        Self { account, scope, url, token_url, allow_private, access: Mutex::default() }
    }
}

/// Why there is no verdict.
pub(super) enum NoVerdict {
    /// Google was not reached, or does not take our account.
    Asked(AskedError),
    /// There is one, and it does not hold; or nothing is there to ask.
    Refused(Refused),
}

impl From<NoVerdict> for Refused {
    fn from(error: NoVerdict) -> Self {
        match error {
            NoVerdict::Asked(error) => error.into(),
            NoVerdict::Refused(refused) => refused,
        }
    }
}

impl From<AskedError> for NoVerdict {
    fn from(error: AskedError) -> Self {
        // A token that Google does not take is the client's fault.
        if error.whose == base::Who::Client { Self::Refused(error.into()) } else { Self::Asked(error) }
    }
}

impl Apps {
    /// What Google says of a token.
    pub(super) async fn play_verdict(&self, token: &str, by: &Circumstances) -> Result<Summary, NoVerdict> {
        let Some(PlayOpener::Google(google)) = &by.app.play else {
            return Err(NoVerdict::Refused(Refused::new(Action::None, "evidence_not_configured")));
        };
        let hash = base64url_encode(sha256(&by.client_data));
        let rules = play_rules(by, &hash).map_err(NoVerdict::Refused)?;
        let none = Secret::new(String::new());
        let check = PlayDecode { origin: &google.url, access: &none, token, rules };
        let asked = |access: &Secret<String>| PlayDecode { access, ..check }.request();
        let judged = self.with_access(google, by.now, (&check, &asked)).await?;
        judged.map_err(|error| {
            let action = if error.reason() == "app_version_too_old" { Action::Update } else { Action::None };
            NoVerdict::Refused(Refused::new(action, error.reason()))
        })
    }

    /// Have Google use up a token of App Check that holds. It says whether somebody showed it before, to anybody.
    pub(super) async fn app_check_used(
        &self,
        google: &AskGoogle,
        (project, token): (&str, &str),
        now: Timestamp,
    ) -> Result<(), AskedError> {
        let none = Secret::new(String::new());
        let check = AppCheckConsume { origin: &google.url, access: &none, project, token };
        let asked = |access: &Secret<String>| AppCheckConsume { access, ..check }.request();
        self.with_access(google, now, (&check, &asked)).await
    }

    /// Ask Google what `asked` makes of the account's access token; once more with a new one where that one is not taken.
    async fn with_access<C: OnlineCheck + Sync>(
        &self,
        google: &AskGoogle,
        now: Timestamp,
        (check, asked): (&C, &Asked<'_>),
    ) -> Result<C::Answer, AskedError> {
        let mut anew = false;
        loop {
            let (access, held) = self.access(google, now, anew).await?;
            let (status, body) = self.parts.others.post(asked(&access)?, google.allow_private).await?;
            match check.judge(status, &body) {
                // It may have been taken back before its end.
                Err(OnlineError::Credentials) if held => anew = true,
                outcome => return Ok(outcome?),
            }
        }
    }

    /// The account's access token, and whether it was held already.
    async fn access(
        &self,
        google: &AskGoogle,
        now: Timestamp,
        anew: bool,
    ) -> Result<(Secret<String>, bool), AskedError> {
        let held = || google.access.lock().unwrap_or_else(PoisonError::into_inner);
        let known = held().clone().filter(|(_, until)| !anew && now < *until);
        if let Some((token, _)) = known {
            return Ok((token, true));
        }
        let (url, account) = (google.token_url.as_str(), &google.account);
        let check = AccessToken { url, account, scope: google.scope, now };
        let got = ask(&*self.parts.others, &check, google.allow_private).await.inspect_err(|error| {
            tracing::error!(scope = google.scope, reason = error.reason, "Google gives no access token");
        })?;
        *held() = Some((got.token.clone(), now.plus(got.lasts).minus(BEFORE)));
        Ok((got.token, false))
    }
}
