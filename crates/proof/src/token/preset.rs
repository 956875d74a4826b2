//! The ways of known identity providers.

use super::{ClaimPath, IssuerRules, Requirement};
use crate::jose::Alg;

/// An identity provider whose tokens deviate from RFC 9068 in known ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Auth0, both token profiles: `azp` or `client_id`, `permissions` beside `scope`.
    Auth0,
    /// Okta custom authorization servers: `scp` as an array, `cid`. (Tokens of the org server are Okta's own.)
    Okta,
    /// Microsoft Entra ID v1 and v2: `scp` as a string, `roles`, `azp` or `appid`; `tid` must be the tenant of `iss`.
    Entra,
    /// Keycloak: `typ` in the claims tells token kinds apart, roles in `realm_access.roles`.
    Keycloak,
    /// Firebase Authentication: ID tokens whose audience is the project.
    Firebase,
    /// Amazon Cognito user pools: access tokens without `aud`; the configured audiences are app client ids.
    Cognito,
    /// Google: ID tokens whose audience is an OAuth client id or, for service accounts, whatever was asked for.
    Google,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 7] =
        [Self::Auth0, Self::Okta, Self::Entra, Self::Keycloak, Self::Firebase, Self::Cognito, Self::Google];

    /// The name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auth0 => "auth0",
            Self::Okta => "okta",
            Self::Entra => "entra",
            Self::Keycloak => "keycloak",
            Self::Firebase => "firebase",
            Self::Cognito => "cognito",
            Self::Google => "google",
        }
    }

    /// The preset of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name() == name)
    }

    pub(super) fn apply(self, rules: &mut IssuerRules) {
        let paths = |names: &[&str]| names.iter().map(|name| ClaimPath::new(*name)).collect::<Vec<_>>();
        // These sign with RS256 alone. What the operator lists beside the defaults is the operator's choice.
        let only_rs256 = !matches!(self, Self::Auth0 | Self::Keycloak);
        if only_rs256 && rules.algorithms == Alg::DEFAULT {
            rules.algorithms = vec![Alg::Rs256];
        }
        let claims = &mut rules.claims;
        match self {
            Self::Auth0 => {
                claims.client = paths(&["client_id", "azp"]);
                claims.scopes = paths(&["scope", "permissions"]);
            }
            Self::Okta => {
                claims.client = paths(&["cid"]);
                claims.scopes = paths(&["scp"]);
            }
            Self::Entra => {
                claims.client = paths(&["azp", "appid"]);
                claims.scopes = paths(&["scp"]);
                claims.groups = paths(&["groups", "roles"]);
                if let Some(tenant) = rules.issuer.as_deref().and_then(entra_tenant) {
                    rules.require.push(required("tid", &[tenant]));
                }
            }
            Self::Keycloak => {
                claims.client = paths(&["azp", "client_id"]);
                claims.groups = paths(&["realm_access.roles", "groups"]);
                rules.require.push(required("typ", &["Bearer", "DPoP"]));
            }
            Self::Firebase => {
                claims.client = Vec::new();
                claims.scopes = Vec::new();
                rules.id_tokens = true;
            }
            Self::Cognito => {
                claims.client = paths(&["client_id"]);
                claims.groups = paths(&["cognito:groups"]);
                claims.audience = ClaimPath::new("client_id");
                rules.require.push(required("token_use", &["access"]));
            }
            Self::Google => {
                claims.client = paths(&["azp"]);
                claims.scopes = Vec::new();
                rules.id_tokens = true;
            }
        }
    }
}

fn required(claim: &'static str, values: &[&str]) -> Requirement {
    Requirement { claim, values: values.iter().map(|value| (*value).to_owned()).collect(), optional: false }
}

/// The tenant in `https://login.microsoftonline.com/{tenant}/v2.0` or `https://sts.windows.net/{tenant}/`.
fn entra_tenant(issuer: &str) -> Option<&str> {
    let path = issuer.strip_prefix("https://login.microsoftonline.com/");
    let path = path.or_else(|| issuer.strip_prefix("https://sts.windows.net/"))?;
    path.split('/').next().filter(|tenant| !tenant.is_empty())
}
