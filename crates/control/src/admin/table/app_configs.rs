//! What apps are told over the air, and the keys that sign it.

use http::{Method, StatusCode};

use super::{Answer, EVERYBODY, OWNERS, Operation, WRITERS, handlers, operation};

pub(super) fn operations() -> [Operation; 8] {
    const ALL: &str = "/admin/v1/app-configs";
    const EACH: &str = "/admin/v1/app-configs/{name}";
    const KEYS: &str = "/admin/v1/config-keys";
    [
        operation(Method::GET, ALL, "listAppConfigs", EVERYBODY, |call| Box::pin(handlers::app_configs::list(call)))
            .summary("List what each app is told over the air")
            .gives(StatusCode::OK, Answer::Page("AppConfigView")),
        operation(Method::GET, EACH, "getAppConfig", EVERYBODY, |call| Box::pin(handlers::app_configs::get(call)))
            .summary("Get what one app is told")
            .one("AppConfigView"),
        operation(Method::POST, "/admin/v1/app-configs/{name}/publish", "publishAppConfig", WRITERS, |call| {
            Box::pin(handlers::app_configs::publish(call))
        })
        .summary("Tell an app what the pin sets say now; refused where that does not fit what the listener shows")
        .takes("PublishAppConfig")
        .one("AppConfigView"),
        operation(Method::POST, "/admin/v1/app-configs/{name}/kill", "killAppConfig", WRITERS, |call| {
            Box::pin(handlers::app_configs::kill(call))
        })
        .summary("Switch pinning or attestation off in an app, or on again")
        .takes("KillSwitches")
        .one("AppConfigView"),
        operation(Method::GET, KEYS, "listConfigKeys", EVERYBODY, |call| Box::pin(handlers::app_configs::keys(call)))
            .summary("List the keys that sign what apps are told; never their private halves")
            .gives(StatusCode::OK, Answer::Page("ConfigKeyView")),
        operation(Method::POST, KEYS, "nextConfigKey", OWNERS, |call| Box::pin(handlers::app_configs::next_key(call)))
            .summary("Get the configuration key that waits for a root key to vouch for it; made if none does")
            .one("ConfigKeyView"),
        operation(Method::POST, "/admin/v1/config-keys/accept", "acceptDelegation", OWNERS, |call| {
            Box::pin(handlers::app_configs::accept(call))
        })
        .summary("Take what a root key says of a configuration key, which signs from now on; every app is told anew")
        .takes("AcceptDelegation")
        .one("ConfigKeyView"),
        operation(Method::GET, "/admin/v1/cert-plan", "certPlan", EVERYBODY, |call| {
            Box::pin(handlers::app_configs::plan(call))
        })
        .summary("Say which changes of keys are safe today, and when the others will be")
        .one("CertPlan"),
    ]
}
