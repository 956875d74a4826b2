//! Apple is asked about the two bits it keeps for a device.

use base::Secret;
use config::AskDeviceCheck;
use proof::attest::Flag;
use proof::attest::online::{AppleKey, DeviceBits, DeviceCheck, Environment};

use super::{AskedError, ask};
use crate::apps::AppInForce;
use crate::apps::Apps;
use crate::apps::evidence::Circumstances;
use crate::apps::refusal::{Action, AppsError, Refused};

/// A key of the team's, or `None` if it cannot be used, which the log then says.
pub(crate) fn team_key(app: &config::App, key: &Secret<String>, key_id: &str, what: &'static str) -> Option<AppleKey> {
    let team = app.ios.as_ref()?.team.as_str();
    let key = AppleKey::new(key, key_id, team);
    key.map_err(|error| tracing::error!(app = %app.name, what, reason = error.reason(), "Apple is not asked")).ok()
}

/// Which of Apple's environments evidence is of.
pub(crate) fn environment(name: Option<&str>) -> Environment {
    if name == Some("development") { Environment::Development } else { Environment::Production }
}

impl Apps {
    /// The flags that the device's bits give; none, where nobody asks or nobody answers and that is put up with.
    pub(super) async fn device_bits(
        &self,
        token: Option<&str>,
        by: &Circumstances,
        of: Option<&str>,
    ) -> Result<Vec<Flag>, AppsError> {
        let Some(configured) = by.app.config.ios.as_ref().and_then(|ios| ios.device_check.as_ref()) else {
            return Ok(Vec::new());
        };
        let Some(token) = token else {
            let missing = Refused::new(Action::None, "devicecheck_missing");
            return if configured.required { Err(missing.into()) } else { Ok(Vec::new()) };
        };
        match self.ask_device((&by.app, configured), (token, of), None).await {
            Ok(flags) => Ok(flags),
            // It is the client's: no token of a genuine device.
            Err(error) if error.whose == base::Who::Client || configured.required => Err(Refused::from(error).into()),
            Err(error) => {
                tracing::warn!(app = %by.app.config.name, reason = error.reason, "Apple does not say a device's bits");
                Ok(Vec::new())
            }
        }
    }

    /// Ask about a device's bits, or have them set.
    async fn ask_device(
        &self,
        (app, configured): (&AppInForce, &AskDeviceCheck),
        (token, of): (&str, Option<&str>),
        write: Option<DeviceBits>,
    ) -> Result<Vec<Flag>, AskedError> {
        let key = app.device_check.as_ref().ok_or(AskedError::OURS)?;
        let own = environment(of).device_check();
        let origin = configured.url.as_ref().map_or(own, |url| url.as_str().trim_end_matches('/'));
        let operations = self.operations();
        let transaction = operations.request_id();
        let now = operations.clock().now();
        let check = DeviceCheck { origin, key, token, transaction: transaction.as_str(), write, now };
        let summary = ask(&*self.parts.others, &check, configured.allow_private).await?;
        Ok(summary.flags)
    }

    /// Set the bit of a device whose installation was revoked, where the app is set so and the device says which it is. That it
    /// cannot be set changes nothing for whoever is refused.
    pub(in crate::apps) async fn mark_revoked(&self, app: &AppInForce, token: Option<&str>, of: Option<&str>) {
        let configured = app.config.ios.as_ref().and_then(|ios| ios.device_check.as_ref());
        let Some((configured, bit, token)) =
            configured.and_then(|configured| Some((configured, configured.mark_revoked?, token?)))
        else {
            return;
        };
        let marked = async {
            let known = self.ask_device((app, configured), (token, of), None).await?;
            let bits = known.iter().find_map(|flag| match flag.value() {
                proof::attest::FlagValue::Number(bits) => Some(*bits),
                _ => None,
            });
            let (bits, mask) = (bits.unwrap_or_default(), 1i64 << bit.min(1));
            if bits & mask == 0 {
                let bits = bits | mask;
                let write = DeviceBits { first: bits & 1 != 0, second: bits & 2 != 0 };
                self.ask_device((app, configured), (token, of), Some(write)).await?;
            }
            Ok::<_, AskedError>(())
        };
        if let Err(error) = marked.await {
            tracing::warn!(app = %app.config.name, reason = error.reason, "a revoked device is not marked");
        }
    }
}
