//! Who may ask, and what is kept sealed: clients, Vouchgate keys, secrets and those that apps use at run time.

use http::{Method, StatusCode};

use super::{Answer, EVERYBODY, Operation, READERS, WRITERS, operation};
use crate::admin::handlers;

pub(super) fn operations() -> impl Iterator<Item = Operation> {
    clients().into_iter().chain(secrets()).chain(runtime_secrets()).chain(apikeys())
}

fn clients() -> [Operation; 8] {
    const ALL: &str = "/admin/v1/clients";
    const EACH: &str = "/admin/v1/clients/{name}";
    let created = StatusCode::CREATED;
    [
        operation(Method::GET, ALL, "listClients", EVERYBODY, |call| Box::pin(handlers::clients::list(call)))
            .summary("List the clients of the configuration file and of this API")
            .page("ClientView"),
        operation(Method::POST, ALL, "createClient", WRITERS, |call| Box::pin(handlers::clients::create(call)))
            .summary("Make a client; its secret is shown this once")
            .takes("CreateClient")
            .gives(created, Answer::One("IssuedSecret")),
        operation(Method::GET, EACH, "getClient", EVERYBODY, |call| Box::pin(handlers::clients::get(call)))
            .summary("Get one client")
            .one("ClientView"),
        operation(Method::PUT, EACH, "putClient", WRITERS, |call| Box::pin(handlers::clients::put(call)))
            .summary("Change what a client may ask for, or make one whose `auth` needs no secret made here; POST makes those that have one")
            .takes("UpdateClient")
            .one("ClientView"),
        operation(Method::DELETE, EACH, "deleteClient", WRITERS, |call| Box::pin(handlers::clients::delete(call)))
            .summary("Delete a client; its tokens live until they expire")
            .deletes(),
        operation(Method::POST, "/admin/v1/clients/{name}/rotate", "rotateClient", WRITERS, |call| {
            Box::pin(handlers::clients::rotate(call))
        })
        .summary("Give a client a new secret, shown this once; the old one works until the overlap ends")
        .takes("RotateClient")
        .one("IssuedSecret"),
        operation(Method::POST, "/admin/v1/clients/{name}/disable", "disableClient", WRITERS, |call| {
            Box::pin(handlers::clients::disable(call))
        })
        .summary("Refuse a client from now on")
        .one("ClientView"),
        operation(Method::POST, "/admin/v1/clients/{name}/enable", "enableClient", WRITERS, |call| {
            Box::pin(handlers::clients::enable(call))
        })
        .summary("Let a client in again")
        .one("ClientView"),
    ]
}

fn secrets() -> [Operation; 7] {
    const ALL: &str = "/admin/v1/secrets";
    const EACH: &str = "/admin/v1/secrets/{name}";
    [
        operation(Method::GET, ALL, "listSecrets", READERS, |call| Box::pin(handlers::secrets::list(call)))
            .summary("List secrets; never their values")
            .page("SecretView"),
        operation(Method::GET, EACH, "getSecret", READERS, |call| Box::pin(handlers::secrets::get(call)))
            .summary("Get one secret; never its value")
            .one("SecretView"),
        operation(Method::PUT, EACH, "putSecret", WRITERS, |call| Box::pin(handlers::secrets::put(call)))
            .summary("Keep a value, bound to the one origin it may be sent to")
            .takes("SetSecret")
            .one("SecretView"),
        operation(Method::DELETE, EACH, "deleteSecret", WRITERS, |call| Box::pin(handlers::secrets::delete(call)))
            .summary("Delete a secret that nothing uses")
            .deletes(),
        operation(Method::POST, "/admin/v1/secrets/{name}/rotate", "rotateSecret", WRITERS, |call| {
            Box::pin(handlers::secrets::rotate(call))
        })
        .summary(
            "Replace a value once its providers accept the new one; the old one is kept for a while, the origin stays",
        )
        .takes("RotateSecret")
        .one("SecretView"),
        operation(Method::POST, "/admin/v1/secrets/{name}/activate", "activateSecret", WRITERS, |call| {
            Box::pin(handlers::secrets::activate(call))
        })
        .summary("Use the next value from now on")
        .takes("ActivateSecret")
        .one("SecretView"),
        operation(Method::POST, "/admin/v1/secrets/{name}/retire", "retireSecret", WRITERS, |call| {
            Box::pin(handlers::secrets::retire(call))
        })
        .summary("Forget the old value, or the next one")
        .takes("RetireSecret")
        .one("SecretView"),
    ]
}

fn runtime_secrets() -> [Operation; 6] {
    const VERSIONS: &str = "/admin/v1/runtime-secrets/{name}/versions";
    [
        operation(Method::GET, "/admin/v1/runtime-secret-versions", "listRuntimeSecretVersions", READERS, |call| {
            Box::pin(handlers::runtime_secrets::list(call))
        })
        .summary("List runtime secrets with their versions and the use of each; never their values")
        .page("RuntimeSecretView"),
        operation(Method::GET, VERSIONS, "getRuntimeSecretVersions", READERS, |call| {
            Box::pin(handlers::runtime_secrets::get(call))
        })
        .summary("Get the versions of one runtime secret and the use of each; never its values")
        .one("RuntimeSecretView"),
        operation(Method::POST, VERSIONS, "setRuntimeSecretValue", WRITERS, |call| {
            Box::pin(handlers::runtime_secrets::set(call))
        })
        .summary("Keep a value of a runtime secret as its newest version; the versions before it end")
        .takes("SetRuntimeSecret")
        .gives(StatusCode::CREATED, Answer::One("RuntimeSecretView")),
        operation(Method::DELETE, VERSIONS, "forgetRuntimeSecretValues", WRITERS, |call| {
            Box::pin(handlers::runtime_secrets::forget(call))
        })
        .summary("Forget all values of a runtime secret")
        .deletes(),
        operation(Method::POST, "/admin/v1/runtime-secrets/{name}/rotate", "rotateRuntimeSecret", WRITERS, |call| {
            Box::pin(handlers::runtime_secrets::rotate(call))
        })
        .summary("Keep a new value of a runtime secret that has one; the one before stays known for the overlap")
        .takes("SetRuntimeSecret")
        .gives(StatusCode::CREATED, Answer::One("RuntimeSecretView")),
        operation(Method::POST, "/admin/v1/runtime-secrets/{name}/retire", "retireRuntimeSecret", WRITERS, |call| {
            Box::pin(handlers::runtime_secrets::retire(call))
        })
        .summary("End older versions of a runtime secret now, or one that is named, and forget the value")
        .takes("RetireRuntimeSecret")
        .one("RuntimeSecretView"),
    ]
}

fn apikeys() -> [Operation; 4] {
    const ALL: &str = "/admin/v1/apikeys";
    const EACH: &str = "/admin/v1/apikeys/{name}";
    let created = StatusCode::CREATED;
    [
        operation(Method::GET, ALL, "listApikeys", READERS, |call| Box::pin(handlers::apikeys::list(call)))
            .summary("List Vouchgate keys, revoked ones too; never the keys themselves")
            .page("ApiKeyView"),
        operation(Method::POST, ALL, "createApikey", WRITERS, |call| Box::pin(handlers::apikeys::create(call)))
            .summary("Make a Vouchgate key, shown this once")
            .takes("CreateApiKey")
            .gives(created, Answer::One("IssuedApiKey")),
        operation(Method::GET, EACH, "getApikey", READERS, |call| Box::pin(handlers::apikeys::get(call)))
            .summary("Get one Vouchgate key by id or name; never the key itself")
            .one("ApiKeyView"),
        operation(Method::DELETE, EACH, "revokeApikey", WRITERS, |call| Box::pin(handlers::apikeys::revoke(call)))
            .summary("Refuse a Vouchgate key from now on")
            .one("ApiKeyView"),
    ]
}
