//! The apps of a configuration, with everything that evidence is judged by: roots, keys, secrets.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::Secret;
use config::{App, AppleEnvironment, EvidenceKind};
use proof::attest::android::AndroidApp;
use proof::attest::apple::{self, Environment};
use proof::attest::approov::ApproovKeys;
use proof::attest::chain::Anchors;
use proof::attest::online::{APP_CHECK_ORIGIN, APP_CHECK_SCOPE, AppleKey, PLAY_ORIGIN, PLAY_SCOPE, ServiceAccount};
use proof::attest::play::PlayKeys;
use proof::jose::KeySet;

use super::asked::{AskGoogle, team_key};

/// An app, ready to judge evidence by. What cannot be used (a secret that is not there, a file that cannot be read) is
/// left out and said in the log: such evidence is refused.
#[derive(Debug)]
pub struct AppInForce {
    /// As it is configured.
    pub config: App,
    pub(crate) apple: Option<AppleRules>,
    pub(crate) android: Option<AndroidRules>,
    pub(crate) play: Option<PlayOpener>,
    pub(crate) device_check: Option<AppleKey>,
    pub(crate) fraud_metric: Option<AppleKey>,
    /// Who uses App Check tokens up, where that is configured.
    pub(crate) app_check: Option<AskGoogle>,
    pub(crate) approov: Option<ApproovKeys>,
    pub(crate) captchas: BTreeMap<&'static str, Secret<String>>,
}

/// Who opens tokens of Play Integrity.
#[derive(Debug)]
pub(crate) enum PlayOpener {
    /// We do, with keys of the operator's own.
    Own(PlayKeys),
    /// Google does.
    Google(Box<AskGoogle>),
}

/// What App Attest is judged by.
#[derive(Debug)]
pub(crate) struct AppleRules {
    pub(crate) anchors: Anchors,
    /// Whose receipts count.
    pub(crate) receipts: Anchors,
    pub(crate) app_id: String,
    pub(crate) environments: Vec<Environment>,
}

/// What key attestations are judged by.
#[derive(Debug)]
pub(crate) struct AndroidRules {
    pub(crate) anchors: Anchors,
    pub(crate) app: AndroidApp,
    pub(crate) boot_keys: Vec<Vec<u8>>,
}

/// The apps of a configuration, by name.
#[derive(Debug, Default)]
pub struct AppsInForce(BTreeMap<String, Arc<AppInForce>>);

impl AppsInForce {
    /// These apps. `secret` gives the value of a reference, by the app's name and the key it stands at.
    pub fn compile(apps: &[App], mut secret: impl FnMut(&App, &str) -> Option<Secret<String>>) -> Self {
        let one = |app: &App| (app.name.as_str().to_owned(), Arc::new(AppInForce::compile(app, &mut secret)));
        Self(apps.iter().map(one).collect())
    }

    /// The app of that name.
    pub fn get(&self, name: &str) -> Option<Arc<AppInForce>> {
        self.0.get(name).map(Arc::clone)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Arc<AppInForce>> {
        self.0.values()
    }

    /// Whether any has Apple asked for its fraud metric.
    pub fn asks_for_metrics(&self) -> bool {
        self.0.values().any(|app| app.fraud_metric.is_some())
    }

    /// Whether any takes key attestations, for which a list of what is revoked is needed.
    pub fn needs_revocations(&self) -> bool {
        self.0.values().any(|app| app.config.android.is_some() && !app.config.disabled)
    }
}

impl AppInForce {
    fn compile(app: &App, secret: &mut impl FnMut(&App, &str) -> Option<Secret<String>>) -> Self {
        let out = |what: &str, why: &dyn std::fmt::Display| {
            tracing::error!(app = %app.name, what, error = %why, "evidence of this kind is refused");
        };
        let roots = app.test_roots.as_ref();
        let with_test = |own: Result<Anchors, _>, file: Option<&std::path::PathBuf>, what: &str| {
            let own: Anchors = match own {
                Ok(own) => own,
                Err(error) => {
                    let error: proof::attest::chain::ChainError = error;
                    out(what, &error);
                    return None;
                }
            };
            let Some(file) = file else { return Some(own) };
            let test = std::fs::read_to_string(file).map_err(|error| error.to_string());
            match test.and_then(|text| Anchors::from_pem(&text).map_err(|error| error.to_string())) {
                Ok(test) => Some(own.and(test)),
                Err(error) => {
                    out("test_roots", &error);
                    Some(own)
                }
            }
        };
        let apple = app.ios.as_ref().and_then(|ios| {
            let anchors = with_test(apple::attestation_root(), roots.and_then(|roots| roots.apple.as_ref()), "ios")?;
            let environments = ios.environments.iter().map(|environment| match environment {
                AppleEnvironment::Production => Environment::Production,
                AppleEnvironment::Development => Environment::Development,
            });
            let test = roots.and_then(|roots| roots.apple.as_ref());
            let receipts = with_test(apple::receipt_root(), test, "ios")?;
            Some(AppleRules { anchors, receipts, app_id: ios.app_id(), environments: environments.collect() })
        });
        let android = app.android.as_ref().and_then(|android| {
            let anchors = with_test(Anchors::google(), roots.and_then(|roots| roots.android.as_ref()), "android")?;
            let registered = AndroidApp {
                package: android.package.clone(),
                digests: android.digests.iter().map(|digest| *digest.bytes()).collect(),
                least_version: android.min_version,
            };
            let boot_keys = android.boot_keys.iter().map(|key| key.bytes().to_vec()).collect();
            Some(AndroidRules { anchors, app: registered, boot_keys })
        });
        let play = PlayOpener::compile(app, secret);
        let device_check = app
            .ios
            .as_ref()
            .and_then(|ios| ios.device_check.as_ref())
            .and_then(|ask| team_key(app, &secret(app, "ios.device_check.key")?, &ask.key_id, "ios.device_check"));
        let fraud_metric = app
            .ios
            .as_ref()
            .and_then(|ios| ios.fraud_metric.as_ref())
            .and_then(|ask| team_key(app, &secret(app, "ios.fraud_metric.key")?, &ask.key_id, "ios.fraud_metric"));
        let approov = app.approov.as_ref().and_then(|approov| match &approov.jwks_file {
            Some(file) => {
                let text = std::fs::read(file).map_err(|error| error.to_string());
                let keys = text.and_then(|text| KeySet::from_issuer_file(&text).map_err(|error| error.to_string()));
                keys.map(|keys| ApproovKeys::key_set(Arc::new(keys))).map_err(|error| out("approov", &error)).ok()
            }
            None => ApproovKeys::secret(&secret(app, "approov.secret")?).map_err(|error| out("approov", &error)).ok(),
        });
        let app_check = app.firebase.as_ref().and_then(|firebase| {
            let consume = firebase.consume.as_ref()?;
            let file = secret(app, "firebase.consume.service_account")?;
            let account = ServiceAccount::new(&file).map_err(|error| out("firebase.consume", &error)).ok()?;
            let at = (consume.url.as_ref(), consume.token_url.as_ref(), firebase.allow_private);
            Some(AskGoogle::new(account, (APP_CHECK_SCOPE, APP_CHECK_ORIGIN), at))
        });
        let mut captchas = BTreeMap::new();
        for kind in [EvidenceKind::Turnstile, EvidenceKind::Hcaptcha, EvidenceKind::Recaptcha] {
            let listed = app.web.as_ref().and_then(|web| web.captcha(kind)).is_some();
            let key = format!("web.{}.secret", kind.as_str());
            if let Some(value) = listed.then(|| secret(app, &key)).flatten() {
                captchas.insert(kind.as_str(), value);
            }
        }
        Self { config: app.clone(), apple, android, play, device_check, fraud_metric, app_check, approov, captchas }
    }
}

impl PlayOpener {
    fn compile(app: &App, secret: &mut impl FnMut(&App, &str) -> Option<Secret<String>>) -> Option<Self> {
        let out = |error: &dyn std::fmt::Display| {
            tracing::error!(app = %app.name, what = "play_integrity", error = %error, "evidence of this kind is refused");
        };
        let play = app.android.as_ref()?.play_integrity.as_ref()?;
        if let Some(verification) = &play.verification_key {
            let key = secret(app, "android.play_integrity.decryption_key")?;
            return PlayKeys::new(&key, verification).map_err(|error| out(&error)).ok().map(Self::Own);
        }
        let file = secret(app, "android.play_integrity.service_account")?;
        let account = ServiceAccount::new(&file).map_err(|error| out(&error)).ok()?;
        let at = (play.url.as_ref(), play.token_url.as_ref(), play.allow_private);
        Some(Self::Google(Box::new(AskGoogle::new(account, (PLAY_SCOPE, PLAY_ORIGIN), at))))
    }
}
