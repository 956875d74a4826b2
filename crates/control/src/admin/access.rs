//! Who calls the admin API, and whether the operation is for them.

use std::net::IpAddr;

use base::{Name, Problem};
use http::request::Parts;
use http::{StatusCode, header};
use store::Role;

use super::table::{Access, Operation};
use super::{Admin, Door, Refusal};
use crate::ClientAddress;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// Whoever can open `admin.sock`, or runs a command on the data directory itself.
    Local,
    /// The bearer of an admin token.
    Token {
        /// The token's name.
        name: Name,
        /// Its role.
        role: Role,
    },
    /// Something on this machine without a token, for operations that are open to it.
    Loopback,
}

impl Principal {
    /// What records and idempotency keys call them.
    pub fn label(&self) -> String {
        match self {
            Self::Local => "local".to_owned(),
            Self::Token { name, .. } => format!("token:{name}"),
            Self::Loopback => "loopback".to_owned(),
        }
    }

    fn role(&self) -> Option<Role> {
        match self {
            Self::Local => Some(Role::Owner),
            Self::Token { role, .. } => Some(*role),
            Self::Loopback => None,
        }
    }
}

/// Let a request in, or not. In this order: is it meant for us, who is it, may they.
pub(super) async fn enter(
    admin: &Admin,
    door: Door,
    operation: Option<&Operation>,
    parts: &Parts,
) -> Result<Principal, Refusal> {
    if door == Door::Local {
        return Ok(Principal::Local);
    }
    admin.hosts.check(&parts.headers, parts.uri.authority().map(http::uri::Authority::as_str))?;
    let principal = authenticate(admin, operation, parts).await?;
    match operation {
        Some(operation) if !allowed(&principal, operation) => Err(forbidden(&principal, operation).into()),
        _ => Ok(principal),
    }
}

fn allowed(principal: &Principal, operation: &Operation) -> bool {
    match principal.role() {
        Some(role) => operation.access.roles().contains(&role),
        None => matches!(operation.access, Access::LoopbackOr(_)),
    }
}

async fn authenticate(admin: &Admin, operation: Option<&Operation>, parts: &Parts) -> Result<Principal, Refusal> {
    let mut credentials = parts.headers.get_all(header::AUTHORIZATION).iter();
    let value = match (credentials.next(), credentials.next()) {
        (Some(value), None) => value,
        (Some(_), Some(_)) => {
            let message = "more than one Authorization header";
            return Err(Problem::client(StatusCode::BAD_REQUEST, "invalid_request", message).into());
        }
        (None, _) => {
            let open = operation.is_some_and(|operation| matches!(operation.access, Access::LoopbackOr(_)));
            return if open && on_this_machine(parts) { Ok(Principal::Loopback) } else { Err(no_token().into()) };
        }
    };
    let token = value.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case("bearer ").then(|| token.trim())
    });
    let Some(token) = token else { return Err(wrong_token().into()) };
    match admin.operations.admin_token_bearer(token).await? {
        Some((name, role)) => Ok(Principal::Token { name, role }),
        None => Err(wrong_token().into()),
    }
}

/// Whether the request comes from this machine itself: not through a proxy on it.
fn on_this_machine(parts: &Parts) -> bool {
    const PROXIED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];
    let loopback = |address: &ClientAddress| IpAddr::to_canonical(&address.0).is_loopback();
    parts.extensions.get().is_some_and(loopback) && !PROXIED.iter().any(|name| parts.headers.contains_key(*name))
}

fn no_token() -> Problem {
    let message =
        "the admin API needs a token: Authorization: Bearer vga_...; make one with `vouchgate admin token create`";
    Problem::client(StatusCode::UNAUTHORIZED, "missing_token", message).challenge("Bearer realm=\"vouchgate-admin\"")
}

fn wrong_token() -> Problem {
    let message = "the token is not an admin token in force";
    Problem::client(StatusCode::UNAUTHORIZED, "invalid_token", message)
        .challenge("Bearer realm=\"vouchgate-admin\", error=\"invalid_token\"")
}

fn forbidden(principal: &Principal, operation: &Operation) -> Problem {
    let role = principal.role().map_or("nobody", Role::as_str);
    let roles: Vec<&str> = operation.access.roles().iter().map(|role| role.as_str()).collect();
    let message = format!("the role {role} may not do this; it takes {}", roles.join(" or "));
    tracing::warn!(target: "audit", by = principal.label(), "a role asked for more than it may");
    Problem::client(StatusCode::FORBIDDEN, "forbidden", message)
}
