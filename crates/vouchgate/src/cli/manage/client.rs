//! `client create`.

use std::path::Path;

use http::Method;
use serde_json::{Map, Value, json};

use super::{ask, done, scopes, shown_once};
use crate::cli::args::{CreateArgs, GrantArg, RequirementArg};
use crate::cli::io::{Failure, Io, Outcome};
use crate::cli::place::read_text;
use crate::cli::table::text;

/// `client create`
pub(super) async fn create(args: CreateArgs, io: &mut Io<'_>) -> Outcome {
    let body = wanted(&args)?;
    let answer = ask(io, &args.state, (Method::POST, "/clients"), Some(body)).await?;
    let (name, json) = (&args.name, args.state.json);
    if answer.get("client_secret").is_none() {
        let method = answer.get("auth").map(|auth| text(auth, "method")).unwrap_or_default();
        let said = match method.as_str() {
            "none" => format!("Made the public client {name}. It has no secret."),
            method => format!("Made the client {name}. It has no secret: it proves who it is by {method}."),
        };
        return done(io, json, &answer, &said);
    }
    let said = format!("Made the client {name}. Its secret, shown this once:");
    shown_once(io, json, &answer, ("client_secret", &said))
}

fn wanted(args: &CreateArgs) -> Result<Value, Failure> {
    let mut body = json!({
        "name": args.name, "scopes": scopes(&args.scope), "token_ttl": args.token_ttl,
        "redirect_uris": args.redirect_uri, "exchange": args.exchange, "introspect": args.introspect,
        "require": args.require.iter().map(|r| requirement(*r)).collect::<Vec<_>>(),
    });
    let grants: Vec<&str> = args.grant.iter().map(|g| grant(*g)).collect();
    if let Some(body) = body.as_object_mut() {
        if !grants.is_empty() {
            body.insert("grants".into(), json!(grants));
        }
        if let Some(auth) = auth(args)? {
            body.insert("auth".into(), auth);
        }
    }
    Ok(body)
}

/// How it proves who it is, by what is given; nothing: with a secret.
fn auth(args: &CreateArgs) -> Result<Option<Value>, Failure> {
    let mut auth = Map::new();
    let mut is = |member: &str, value: Value| drop(auth.insert(member.to_owned(), value));
    let named = [
        ("subject_dn", args.subject_dn.clone()),
        ("san_dns", args.san_dns.clone()),
        ("san_uri", args.san_uri.clone()),
        ("san_ip", args.san_ip.map(|ip| ip.to_string())),
        ("san_email", args.san_email.clone()),
    ];
    if args.public {
        is("method", "none".into());
    } else if let Some(file) = &args.certificate {
        is("method", "self_signed_tls_client_auth".into());
        is("certificate", read_text(file)?.into());
    } else if let Some((member, value)) = named.into_iter().find_map(|(member, value)| Some((member, value?))) {
        is("method", "tls_client_auth".into());
        is(member, value.into());
    } else if args.jwks.is_some() || args.jwks_url.is_some() {
        is("method", "private_key_jwt".into());
        if let Some(file) = &args.jwks {
            is("jwks", key_set(file)?);
        }
        if let Some(url) = &args.jwks_url {
            is("jwks_url", url.as_str().into());
            is("allow_private", args.allow_private.into());
        }
        is("algorithms", json!(args.alg));
    } else if !args.alg.is_empty() {
        return Err(Failure::new("--alg is for clients that sign assertions: give --jwks or --jwks-url too"));
    }
    Ok((!auth.is_empty()).then_some(Value::Object(auth)))
}

fn key_set(file: &Path) -> Result<Value, Failure> {
    let set: Value = serde_json::from_str(&read_text(file)?)
        .map_err(|error| Failure::new(format!("{} is not a JWK Set: {error}", file.display())))?;
    if set.get("keys").is_some() {
        return Ok(set);
    }
    // A single key, as many tools write it.
    Ok(json!({ "keys": [set] }))
}

const fn grant(grant: GrantArg) -> &'static str {
    match grant {
        GrantArg::ClientCredentials => "client_credentials",
        GrantArg::RefreshToken => "refresh_token",
        GrantArg::AuthorizationCode => "authorization_code",
        GrantArg::DeviceCode => "device_code",
        GrantArg::TokenExchange => "token_exchange",
    }
}

const fn requirement(requirement: RequirementArg) -> &'static str {
    match requirement {
        RequirementArg::Dpop => "dpop",
        RequirementArg::Mtls => "mtls",
        RequirementArg::Signature => "signature",
        RequirementArg::Par => "par",
    }
}
