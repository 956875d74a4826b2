//! Google opens Play Integrity tokens, for a service account that it has given an access token.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base::{Secret, Timestamp};
use proof::attest::Summary;
use proof::attest::online::{AccessToken, OnlineError, PLAY_SCOPE, PlayDecode, ServiceAccount};
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
pub(crate) struct GooglePlay {
    pub(crate) account: ServiceAccount,
    /// The origin.
    pub(crate) url: String,
    pub(crate) token_url: String,
    pub(crate) allow_private: bool,
    /// The access token, and until when it is shown.
    pub(crate) access: Mutex<Option<(Secret<String>, Timestamp)>>,
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
        let mut anew = false;
        let judged = loop {
            let (access, held) = self.access(google, by.now, anew).await?;
            let check = PlayDecode { origin: &google.url, access: &access, token, rules };
            match ask(&*self.parts.others, &check, google.allow_private).await {
                // It may have been taken back before its end.
                Err(error) if error.reason == OnlineError::Credentials.reason() && held => anew = true,
                outcome => break outcome?,
            }
        };
        judged.map_err(|error| {
            let action = if error.reason() == "app_version_too_old" { Action::Update } else { Action::None };
            NoVerdict::Refused(Refused::new(action, error.reason()))
        })
    }

    /// The account's access token, and whether it was held already.
    async fn access(
        &self,
        google: &GooglePlay,
        now: Timestamp,
        anew: bool,
    ) -> Result<(Secret<String>, bool), AskedError> {
        let held = || google.access.lock().unwrap_or_else(PoisonError::into_inner);
        let known = held().clone().filter(|(_, until)| !anew && now < *until);
        if let Some((token, _)) = known {
            return Ok((token, true));
        }
        let (url, account) = (google.token_url.as_str(), &google.account);
        let check = AccessToken { url, account, scope: PLAY_SCOPE, now };
        let got = ask(&*self.parts.others, &check, google.allow_private).await.inspect_err(|error| {
            tracing::error!(reason = error.reason, "no access token for Play Integrity");
        })?;
        *held() = Some((got.token.clone(), now.plus(got.lasts).minus(BEFORE)));
        Ok((got.token, false))
    }
}
