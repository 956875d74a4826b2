//! What a policy's requests are paid from: its own `spend` and every `[[budget]]` that may count them.

use std::sync::Arc;

use base::{Money, Span};
use config::{Budget, BudgetMode, BudgetPer, BudgetUnit, BudgetWindow, OnUnknown, Over, Policy, Spend, Threshold};

use crate::glob::Glob;
use crate::rule::{any, globs, unset_or_any};

/// A budget, compiled: of the requests of one policy.
#[derive(Debug)]
pub struct Fund {
    account: Arc<str>,
    per: Box<[BudgetPer]>,
    limits: Box<[(BudgetUnit, i64)]>,
    concurrent: Option<u32>,
    window: BudgetWindow,
    soft: Box<[Threshold]>,
    enforced: bool,
    on_unknown: OnUnknown,
    scope: Scope,
}

/// Which requests it counts. What depends on the policy alone has been decided.
#[derive(Debug, Default)]
struct Scope {
    organisation: Box<[Glob]>,
    project: Box<[Glob]>,
    issuer: Box<[Glob]>,
    client: Box<[Glob]>,
    subject: Box<[Glob]>,
    key: Box<[Glob]>,
    device: Box<[Glob]>,
    model: Box<[Glob]>,
    provider: Box<[Glob]>,
    service: Box<[Glob]>,
    upstream: Box<[Glob]>,
}

/// Who spends.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spender<'a> {
    /// The configured name of the issuer.
    pub issuer: &'a str,
    /// The subject: means nothing without its issuer.
    pub subject: &'a str,
    /// The client the credential was given to.
    pub client: Option<&'a str>,
    /// The `vg_` key.
    pub key: Option<&'a str>,
    /// The thumbprint of what the token is bound to, base64url.
    pub device: Option<&'a str>,
    /// The caller's organisation.
    pub organisation: Option<&'a str>,
    /// The caller's project.
    pub project: Option<&'a str>,
    /// The tag the caller gives the request.
    pub tag: Option<&'a str>,
}

/// What it is spent on: one place where a request may be answered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Aim<'a> {
    /// The model, by the name the client asked for.
    pub asked: Option<&'a str>,
    /// The provider.
    pub provider: Option<&'a str>,
    /// The model as this provider calls it.
    pub model: Option<&'a str>,
    /// The service.
    pub service: Option<&'a str>,
    /// The upstream.
    pub upstream: Option<&'a str>,
}

impl Fund {
    /// What the requests of `policy` are paid from, its own `spend` first.
    pub(crate) fn of(policy: &Policy, budgets: &[Budget]) -> Box<[Arc<Self>]> {
        let own = policy.spend.iter().map(|spend| Arc::new(Self::spend(spend, &spend.account(&policy.name))));
        let counts = |budget: &&Budget| {
            let tagged = || policy.tags.iter().any(|tag| any(&globs(&budget.over.tag), tag));
            unset_or_any(&globs(&budget.over.policy), Some(policy.name.as_str()))
                && (budget.over.tag.is_empty() || tagged())
        };
        own.chain(budgets.iter().filter(counts).map(|budget| Arc::new(Self::budget(budget)))).collect()
    }

    fn spend(spend: &Spend, account: &str) -> Self {
        Self {
            account: Arc::from(account),
            per: spend.per.to_vec().into(),
            limits: spend.limits().into(),
            concurrent: spend.concurrent,
            window: spend.window(),
            soft: spend.soft.clone().into(),
            enforced: spend.mode == BudgetMode::Enforce,
            on_unknown: spend.on_unknown,
            scope: Scope::default(),
        }
    }

    /// What an instance of an app that is throttled may spend in a day: one account for each, whatever policy lets it in. No
    /// `[[budget]]` has a blank in its name.
    pub(crate) fn throttle(limit: Money) -> Self {
        Self {
            account: Arc::from("risk throttle"),
            per: [BudgetPer::Subject].into(),
            limits: [(BudgetUnit::Money, i64::try_from(limit.nano_usd()).unwrap_or(i64::MAX))].into(),
            concurrent: None,
            window: BudgetWindow::Rolling(Span::secs(86_400)),
            soft: Box::default(),
            enforced: true,
            on_unknown: OnUnknown::Charge,
            scope: Scope::default(),
        }
    }

    fn budget(budget: &Budget) -> Self {
        Self {
            account: Arc::from(budget.name.as_str()),
            per: budget.per.to_vec().into(),
            limits: budget.limits().into(),
            concurrent: budget.concurrent,
            window: budget.window(),
            soft: budget.soft.clone().into(),
            enforced: budget.mode == BudgetMode::Enforce,
            on_unknown: budget.on_unknown,
            scope: Scope::compile(&budget.over),
        }
    }

    /// What its accounts are called: the budget's name, or `policy NAME PER WINDOW`.
    pub fn account(&self) -> &Arc<str> {
        &self.account
    }

    /// What is counted separately.
    pub fn per(&self) -> &[BudgetPer] {
        &self.per
    }

    /// Its limits in time, each in its unit.
    pub fn limits(&self) -> &[(BudgetUnit, i64)] {
        &self.limits
    }

    /// How many requests may be in progress.
    pub fn concurrent(&self) -> Option<u32> {
        self.concurrent
    }

    /// In how long.
    pub fn window(&self) -> BudgetWindow {
        self.window
    }

    /// The parts of a limit that are told of when they are reached.
    pub fn soft(&self) -> &[Threshold] {
        &self.soft
    }

    /// Whether it refuses what does not fit.
    pub fn is_enforced(&self) -> bool {
        self.enforced
    }

    /// What a call is taken to have cost of which its provider does not say it.
    pub fn on_unknown(&self) -> OnUnknown {
        self.on_unknown
    }

    /// Whether it limits money: then the price of whatever it counts has to be known.
    pub fn is_of_money(&self) -> bool {
        self.limits.iter().any(|(unit, _)| *unit == BudgetUnit::Money)
    }

    /// Whether it counts what this caller asks for, wherever it goes.
    pub fn counts_caller(&self, spender: &Spender<'_>) -> bool {
        let scope = &self.scope;
        unset_or_any(&scope.organisation, spender.organisation)
            && unset_or_any(&scope.project, spender.project)
            && unset_or_any(&scope.issuer, Some(spender.issuer))
            && unset_or_any(&scope.client, spender.client)
            && unset_or_any(&scope.subject, Some(spender.subject))
            && unset_or_any(&scope.key, spender.key)
            && unset_or_any(&scope.device, spender.device)
    }

    /// Whether it counts what is answered there.
    pub fn counts_at(&self, aim: &Aim<'_>) -> bool {
        let scope = &self.scope;
        let model = || match (aim.asked, aim.provider, aim.model) {
            (Some(asked), _, _) if any(&scope.model, asked) => true,
            (_, Some(provider), Some(model)) => any(&scope.model, &format!("{provider}/{model}")),
            _ => false,
        };
        (scope.model.is_empty() || model())
            && unset_or_any(&scope.provider, aim.provider)
            && unset_or_any(&scope.service, aim.service)
            && unset_or_any(&scope.upstream, aim.upstream)
    }
}

impl Scope {
    fn compile(over: &Over) -> Self {
        Self {
            organisation: globs(&over.organisation),
            project: globs(&over.project),
            issuer: globs(&over.issuer),
            client: globs(&over.client),
            subject: globs(&over.subject),
            key: globs(&over.key),
            device: globs(&over.device),
            model: globs(&over.model),
            provider: globs(&over.provider),
            service: globs(&over.service),
            upstream: globs(&over.upstream),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn funds(budgets: &str, policy: &str) -> Box<[Arc<Fund>]> {
        let text = format!("{budgets}\n[[policy]]\nname = \"p\"\nmay = {{ models = [\"*\"] }}\n{policy}\n");
        let config = config::parse(&text).unwrap_or_else(|faults| panic!("{faults:?}"));
        Fund::of(&config.policies[0], &config.budgets)
    }

    const ALICE: Spender<'static> = Spender {
        issuer: "corp",
        subject: "alice",
        client: Some("app"),
        key: None,
        device: None,
        organisation: Some("acme"),
        project: None,
        tag: None,
    };

    #[test]
    fn a_policys_own_limits_come_first_and_each_budget_that_may_count_its_requests() {
        let budgets = "[[budget]]\nname = \"all\"\nlimit = \"5 USD\"\nwindow = \"day\"\n\
            [[budget]]\nname = \"this\"\nover = { policy = \"p\", tag = \"batch\" }\ntokens = 10\nwindow = \"1h\"\n\
            [[budget]]\nname = \"others\"\nover = { policy = \"q*\" }\ntokens = 10\nwindow = \"1h\"\n";
        let policy =
            "tags = [\"batch\"]\nspend = [{ limit = \"0.50 USD\", requests = 7, per = \"subject\", window = \"1d\" }]";
        let funds = funds(budgets, policy);
        let accounts: Vec<&str> = funds.iter().map(|fund| &**fund.account()).collect();
        assert_eq!(accounts, ["policy p subject 1d", "all", "this"]);
        assert_eq!(funds[0].limits(), [(BudgetUnit::Money, 500_000_000), (BudgetUnit::Requests, 7)]);
        assert!(funds[1].is_of_money() && !funds[2].is_of_money());
    }

    #[test]
    fn every_list_given_must_name_the_request_and_what_has_no_such_thing_is_not_named() {
        let one = |over: &str| {
            let all = funds(
                &format!("[[budget]]\nname = \"b\"\nover = {{ {over} }}\nrequests = 1\nwindow = \"total\"\n"),
                "",
            );
            Arc::clone(&all[0])
        };
        assert!(one("organisation = \"ac*\", client = [\"x\", \"app\"]").counts_caller(&ALICE));
        assert!(!one("organisation = \"ac*\", client = \"x\"").counts_caller(&ALICE));
        assert!(!one("project = \"*\"").counts_caller(&ALICE));
        assert!(!one("device = \"*\"").counts_caller(&ALICE));
        let aim = Aim { asked: Some("fast"), provider: Some("openai"), model: Some("gpt-5-mini"), ..Aim::default() };
        assert!(one("model = \"fa*\"").counts_at(&aim));
        assert!(one("model = \"openai/gpt-5-*\"").counts_at(&aim));
        assert!(!one("model = \"gpt-5-*\"").counts_at(&aim));
        assert!(one("provider = \"open*\"").counts_at(&aim));
        assert!(!one("service = \"*\"").counts_at(&aim));
        let passed = Aim { provider: Some("openai"), model: Some("gpt-5-mini"), ..Aim::default() };
        assert!(one("model = \"openai/gpt-5-*\"").counts_at(&passed), "also on the provider's own API");
        assert!(!one("model = \"*\"").counts_at(&Aim { upstream: Some("maps"), ..Aim::default() }));
    }
}
