//! Whom an account is for: the text that tells it from the others of its budget.

use std::collections::HashMap;
use std::fmt::Write;

use aws_lc_rs::digest;
use config::{BudgetPer, Config};
use policy::{Fund, Spender};
use proof::jose::base64url_encode;
use proof::token::ClaimPath;

use super::load::Place;
use crate::authenticate::Caller;

/// The longest text an account is told apart by.
const LONGEST: usize = 512;

/// Who belongs to which organisation and project.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    /// By issuer: the claims that say it.
    issuers: HashMap<String, (Option<ClaimPath>, Option<ClaimPath>)>,
    /// By client, of ours.
    clients: HashMap<String, (Option<String>, Option<String>)>,
}

impl Membership {
    pub(crate) fn of(config: &Config) -> Self {
        let path = |claim: &Option<String>| claim.as_ref().map(ClaimPath::new);
        let issuers = config
            .issuers
            .iter()
            .map(|issuer| (issuer.name.to_string(), (path(&issuer.claims.organisation), path(&issuer.claims.project))));
        let clients = config
            .clients
            .iter()
            .map(|client| (client.name.to_string(), (client.organisation.clone(), client.project.clone())));
        Self { issuers: issuers.collect(), clients: clients.collect() }
    }

    /// The caller's organisation and project: what the issuer's own claims say, or for tokens and keys of ours the client's.
    pub(crate) fn find(&self, caller: &Caller) -> (Option<String>, Option<String>) {
        if caller.issuer() == config::OWN_NAME {
            return caller.client().and_then(|client| self.clients.get(client)).cloned().unwrap_or_default();
        }
        let Some((organisation, project)) = self.issuers.get(caller.issuer()) else { return (None, None) };
        let said = |path: &Option<ClaimPath>| {
            let path = path.as_ref()?;
            caller.claim(path).and_then(|value| value.as_str()).map(str::to_owned)
        };
        (said(organisation), said(project))
    }
}

/// The text for the account of `fund` that counts this caller at this place. Empty: everyone together.
pub(super) fn whom(fund: &Fund, policy: &str, spender: &Spender<'_>, place: &Place) -> String {
    let mut text = String::with_capacity(48);
    for per in fund.per() {
        let part = match per {
            BudgetPer::Organisation => spender.organisation,
            BudgetPer::Project => spender.project,
            BudgetPer::Client => spender.client,
            BudgetPer::Subject => Some(spender.subject),
            BudgetPer::Key => spender.key,
            BudgetPer::Device => spender.device,
            BudgetPer::Policy => Some(policy),
            BudgetPer::Model => place.asked.as_deref(),
            BudgetPer::Provider => place.provider.as_deref(),
            BudgetPer::Service => place.service.as_deref(),
            BudgetPer::Upstream => place.upstream.as_deref(),
            BudgetPer::Tag => spender.tag,
        };
        if !text.is_empty() {
            text.push(';');
        }
        text.push_str(per.as_str());
        text.push('=');
        if matches!(per, BudgetPer::Subject | BudgetPer::Client) {
            // Neither means anything without its issuer.
            escaped(&mut text, spender.issuer);
            text.push('/');
        }
        escaped(&mut text, part.unwrap_or_default());
    }
    bounded(text)
}

/// The text for one caller, as accounts have it: `subject=corp/alice`.
pub(crate) fn account_text(kind: &str, issuer: Option<&str>, name: &str) -> String {
    let mut text = String::with_capacity(kind.len() + issuer.map_or(0, str::len) + name.len() + 2);
    text.push_str(kind);
    text.push('=');
    if let Some(issuer) = issuer {
        escaped(&mut text, issuer);
        text.push('/');
    }
    escaped(&mut text, name);
    bounded(text)
}

fn bounded(text: String) -> String {
    if text.len() <= LONGEST {
        return text;
    }
    // Whatever is longer has a name of its own all the same.
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    let head = text.get(..text.floor_char_boundary(LONGEST - 64)).unwrap_or_default();
    format!("{head}...{}", base64url_encode(hash.as_ref()))
}

/// No part of a text can be taken for another.
fn escaped(text: &mut String, part: &str) {
    let stands_for_itself = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'%' | b';' | b'=' | b'/');
    if part.bytes().all(stands_for_itself) {
        text.push_str(part);
        return;
    }
    for c in part.chars() {
        match c {
            '%' | ';' | '=' | '/' => {
                let _infallible = write!(text, "%{:02X}", u32::from(c));
            }
            c if c.is_control() => text.push('\u{fffd}'),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn text(per: &str, spender: &Spender<'_>) -> String {
        let text = format!(
            "[[policy]]\nname = \"p\"\nmay = {{ models = [\"*\"] }}\nspend = [{{ requests = 1, per = {per}, window = \"1d\" }}]\n"
        );
        let config = config::parse(&text).expect("good");
        let policies = policy::compile(&config.policies, &policy::World::of(&config)).expect("compiles");
        let caller = policy::Caller {
            issuer: "corp",
            client: None,
            subject: "s",
            scopes: &[],
            groups: &[],
            key: None,
            ip: [127, 0, 0, 1].into(),
            bound: policy::Proven::NONE,
            attested: None,
        };
        let ask = policy::Ask::new(policy::Target::Model("m"), base::Timestamp::from_secs(1));
        let permit = policies.decide(&caller, &ask).expect("permitted");
        let place = Place { asked: Some(Arc::from("fast")), provider: Some(Arc::from("openai")), ..Place::default() };
        whom(&permit.funds()[0], "p", spender, &place)
    }

    #[test]
    fn accounts_are_told_apart_by_what_is_counted_apart_and_by_nothing_else() {
        let alice = Spender { issuer: "corp", subject: "alice", client: Some("app"), ..Spender::default() };
        assert_eq!(text("\"subject\"", &alice), "subject=corp/alice");
        assert_eq!(text("[\"client\", \"model\"]", &alice), "client=corp/app;model=fast");
        assert_eq!(text("[\"device\", \"provider\", \"policy\"]", &alice), "device=;provider=openai;policy=p");
    }

    #[test]
    fn no_subject_is_called_so_that_it_shares_anothers_account() {
        let named = |subject: &str| {
            text("[\"subject\", \"model\"]", &Spender { issuer: "corp", subject, ..Spender::default() })
        };
        assert_eq!(named("a;model=x"), "subject=corp/a%3Bmodel%3Dx;model=fast");
        assert_ne!(named("a%3B"), named("a;"));
        let long = |last: &str| named(&format!("{}{last}", "\u{e9}".repeat(600)));
        assert_ne!(long("a"), long("b"));
        assert!(long("a").len() <= LONGEST);
    }
}
