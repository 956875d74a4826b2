//! What an operator should know of the budgets.

use config::{Budget, BudgetMode, BudgetUnit, Config, OWN_NAME};
use gateway::own_figures;
use llm::catalogue::Figures;

use super::{Findings, Verdict};

/// Budgets that refuse everything, that refuse nothing, and models that cannot be paid for.
pub(super) fn look(config: &Config, findings: &mut Findings) {
    let mut warn = |what: String, seen: String, todo: &str| findings.add(what, Verdict::Warning, seen, Some(todo));
    let named = config.budgets.iter().map(|budget| (format!("budget {}", budget.name), budget.limits(), budget.mode));
    let own = config.policies.iter().flat_map(|policy| {
        policy.spend.iter().map(move |spend| {
            (format!("policy {}, spend per {}", policy.name, spend.window()), spend.limits(), spend.mode)
        })
    });
    for budget in &config.budgets {
        if budget.concurrent == Some(0) && budget.mode == BudgetMode::Enforce {
            let seen = "concurrent = 0: every request it counts is refused".to_owned();
            warn(format!("budget {}", budget.name), seen, "raise it, or take the policy away that lets them in");
        }
    }
    for (what, limits, mode) in named.chain(own) {
        if mode == BudgetMode::Shadow {
            let seen = "it only counts: what is over its limit is let in".to_owned();
            warn(what.clone(), seen, "set mode = \"enforce\" once its figures are as expected");
        }
        for (unit, _) in limits.iter().filter(|(_, limit)| *limit == 0 && mode == BudgetMode::Enforce) {
            let seen = format!("{} = 0: every request it counts is refused", unit.as_str());
            warn(what.clone(), seen, "raise it, or take the policy away that lets them in");
        }
    }
    let of_money = |limits: &[(BudgetUnit, i64)]| limits.iter().any(|(unit, _)| *unit == BudgetUnit::Money);
    let spends = config.policies.iter().flat_map(|policy| &policy.spend);
    let pays = config.budgets.iter().any(|budget| budget.mode == BudgetMode::Enforce && of_money(&budget.limits()))
        || spends.into_iter().any(|spend| spend.mode == BudgetMode::Enforce && of_money(&spend.limits()));
    if !pays {
        return;
    }
    let unpriced = unpriced(config);
    if !unpriced.is_empty() {
        let seen = format!("no price is known of {}: under a budget of money they are refused", unpriced.join(", "));
        warn("budgets".to_owned(), seen, "say it in a [[price]], or limit tokens instead of money");
    }
    for policy in config.policies.iter().filter(|policy| policy.may.max_output_tokens.is_none()) {
        let own = policy.spend.iter().any(|spend| of_money(&spend.limits()));
        let counts = |budget: &Budget| budget.over.policy.is_empty() && of_money(&budget.limits());
        if !policy.may.models.is_empty() && (own || config.budgets.iter().any(counts)) {
            let seen = "a request that bounds nothing holds the price of the longest answer its model makes".to_owned();
            warn(
                format!("policy {}", policy.name),
                seen,
                "set may.max_output_tokens, so that more requests fit at once",
            );
        }
    }
}

/// The targets of models whose price nobody knows, as `PROVIDER/MODEL`.
fn unpriced(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    for target in config.models.iter().flat_map(|model| &model.targets) {
        let Some(provider) = config.providers.iter().find(|provider| provider.name == target.provider) else {
            continue;
        };
        if target.provider.as_str() == OWN_NAME {
            continue;
        }
        let own = own_figures(&config.prices, provider.name.as_str());
        let figures = Figures::of(provider.kind.as_str(), &target.model, &own);
        let name = format!("{}/{}", target.provider, target.model);
        if figures.price.is_none() && figures.charges.request.is_none() && !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> Vec<String> {
        let config = config::parse(text).unwrap_or_else(|faults| panic!("{faults:?}"));
        let mut findings = Findings::default();
        look(&config, &mut findings);
        findings.0.into_iter().map(|finding| format!("{}: {}", finding.what, finding.seen)).collect()
    }

    #[test]
    fn budgets_that_do_not_do_what_is_expected_are_told_of() {
        let base = "[[provider]]\nname = \"p\"\nkind = \"ollama\"\n\
            [[model]]\nname = \"local\"\ntargets = [{ provider = \"p\", model = \"qwen\" }]\n\
            [[policy]]\nname = \"all\"\nmay = { models = [\"*\"], max_output_tokens = 100 }\n";
        assert!(seen(base).is_empty());
        let told = seen(&format!(
            "{base}[[budget]]\nname = \"a\"\nlimit = \"1 USD\"\nwindow = \"day\"\n\
             [[budget]]\nname = \"b\"\nrequests = 0\nwindow = \"day\"\n\
             [[budget]]\nname = \"c\"\ntokens = 5\nwindow = \"day\"\nmode = \"shadow\"\n"
        ));
        assert_eq!(
            told,
            [
                "budget b: requests = 0: every request it counts is refused",
                "budget c: it only counts: what is over its limit is let in",
                "budgets: no price is known of p/qwen: under a budget of money they are refused",
            ]
        );
        let open = base.replace(", max_output_tokens = 100", "");
        let spend = "spend = [{ limit = \"1 USD\", per = \"subject\", window = \"1d\" }]\n\
            [[price]]\nprovider = \"p\"\nmodel = \"*\"\ninput = \"1 USD\"\noutput = \"1 USD\"\n";
        assert_eq!(
            seen(&format!("{open}{spend}")),
            ["policy all: a request that bounds nothing holds the price of the longest answer its model makes"]
        );
    }
}
