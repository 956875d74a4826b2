//! What an operator should know of apps: what is for development only, and whether the list of revoked keys can be had.

use std::time::Duration;

use config::Config;
use net::revocations::ANDROID_STATUS_URL;
use net::{Egress, FetchLimits, Reach, fetch_json};
use proof::attest::status::StatusList;
use url::Url;

use super::{Findings, Verdict};

const LIST: FetchLimits = FetchLimits { bytes: 32 << 20, time: Duration::from_secs(30) };

/// Look at apps, and fetch the list where one takes Android phones.
pub(super) async fn look(config: &Config, egress: &Egress, findings: &mut Findings) {
    for app in &config.apps {
        let what = format!("app {}", app.name);
        if app.is_for_development() {
            let todo = "take expose_reasons, test_roots and allow_testing away before others use it";
            findings.add(what.clone(), Verdict::Warning, "set up for development", Some(todo));
        }
        let development =
            app.ios.as_ref().is_some_and(|ios| ios.environments.contains(&config::AppleEnvironment::Development));
        if development && app.minimum_level() < config::AttestationLevel::HwStrong && !app.is_for_development() {
            let todo = "have an app of its own for development builds, with policies that give it little";
            findings.add(what, Verdict::Warning, "development builds are let in", Some(todo));
        }
    }
    if config.apps.iter().any(|app| app.android.is_some() && !app.disabled) {
        list(config, egress, findings).await;
    }
}

async fn list(config: &Config, egress: &Egress, findings: &mut Findings) {
    let what = "revoked Android attestation keys";
    let written = config.attest.android_status_url.as_ref().map_or(ANDROID_STATUS_URL, config::HttpUrl::as_str);
    let reach = if config.attest.allow_private { Reach::Private } else { Reach::Public };
    let Ok(url) = Url::parse(written) else { return };
    let todo = "until it can be fetched no Android phone enrols, unless a list of the last 7 days is kept";
    match fetch_json(egress, &url, reach, LIST).await {
        Ok(fetched) => match StatusList::parse(&fetched.body) {
            Ok(list) => findings.ok(what, format!("{} entries at {written}", list.len())),
            Err(error) => findings.add(what, Verdict::Failure, format!("{written}: {error}"), Some(todo)),
        },
        Err(error) => findings.add(what, Verdict::Failure, format!("{written}: {error}"), Some(todo)),
    }
}
