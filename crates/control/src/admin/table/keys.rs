//! The keys that sign our tokens, tokens, and what is revoked.

use http::{Method, StatusCode};

use super::{Answer, EVERYBODY, Operation, READERS, WRITERS, operation};
use crate::admin::handlers;

pub(super) fn operations() -> [Operation; 7] {
    const REVOCATIONS: &str = "/admin/v1/revocations";
    [
        operation(Method::GET, "/admin/v1/keys", "listKeys", EVERYBODY, |call| Box::pin(handlers::keys::list(call)))
            .summary("List the keys that sign our tokens; never their private halves")
            .page("KeyView"),
        operation(Method::GET, "/admin/v1/keys/{name}", "getKey", EVERYBODY, |call| {
            Box::pin(handlers::keys::get(call))
        })
        .summary("Get one of the keys that sign our tokens, by its `kid`; never its private half")
        .one("KeyView"),
        operation(Method::POST, "/admin/v1/keys/rotate", "rotateKeys", WRITERS, |call| {
            Box::pin(handlers::keys::rotate(call))
        })
        .summary(
            "Publish the next signing key, which signs later or at once; or end a compromised one with all it signed",
        )
        .takes("RotateKey")
        .gives(StatusCode::OK, Answer::Page("KeyView")),
        operation(Method::GET, REVOCATIONS, "listRevocations", READERS, |call| {
            Box::pin(handlers::revocations::list(call))
        })
        .summary("List revocations, newest first, lifted ones too")
        .page("RevocationView"),
        operation(Method::POST, REVOCATIONS, "createRevocation", WRITERS, |call| {
            Box::pin(handlers::revocations::create(call))
        })
        .summary("Revoke a token, subject, client, device, session, key, issuer or everything; in force when answered")
        .takes("CreateRevocation")
        .gives(StatusCode::CREATED, Answer::One("RevocationView")),
        operation(Method::DELETE, "/admin/v1/revocations/{name}", "liftRevocation", WRITERS, |call| {
            Box::pin(handlers::revocations::lift(call))
        })
        .summary("Lift a revocation by its id, except of a token or key; refresh tokens it ended stay ended")
        .one("RevocationView"),
        operation(Method::POST, "/admin/v1/tokens", "mintToken", WRITERS, |call| Box::pin(handlers::keys::mint(call)))
            .summary("Mint an access token for a client")
            .takes("MintToken")
            .gives(StatusCode::CREATED, Answer::One("MintedToken")),
    ]
}
