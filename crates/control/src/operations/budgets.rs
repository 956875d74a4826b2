//! What budgets have spent, and raising them for a while.

use audit::Event;
use base::{Money, Span, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{Balance, BalanceFilter, Ledger, NewRaise, Page, Period, Raise, StoreError, Unit, Window};
use vault::HashPurpose;

use super::{Listed, OperationError, Operations};

/// The longest a raise may last.
const LONGEST: Span = Span::secs(366 * 86_400);

/// What one account of a budget has used. Amounts are in its unit: nano-USD, tokens, requests, milliseconds of audio.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BudgetAccount {
    /// The budget; of a policy's own limit `policy NAME PER WINDOW`.
    pub budget: String,
    /// Whom it counts (`subject=corp/alice`); empty: everybody together.
    pub whom: String,
    /// `nano_usd`, `tokens`, `input_tokens`, `output_tokens`, `requests` or `audio_ms`.
    pub unit: String,
    /// `hour`, `day`, `week`, `month`, `total`, or how long a window is that moves (`1d`).
    pub window: String,
    /// The limit, when it was last used.
    pub limit: i64,
    /// By how much raises in force raise it.
    pub raised: i64,
    /// What was used.
    pub spent: i64,
    /// What was under way in a node that died, with no known end.
    pub held: i64,
    /// What nodes have taken in advance; what is under way in them is part of it.
    pub leased: i64,
    /// What is left.
    pub remaining: i64,
    /// When some of it is free again, in seconds since 1970; never, for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resets: Option<i64>,
}

/// More for a budget, for a while.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RaiseBudget {
    /// The budget; of a policy's own limit `policy NAME PER WINDOW`, as its accounts say it.
    pub budget: String,
    /// By how much: money (`"5 USD"`) where the unit is `nano_usd`, else a whole number.
    pub amount: Amount,
    /// What is raised: `nano_usd` unless said otherwise.
    #[serde(default)]
    pub unit: Option<String>,
    /// For whom, as an account says it. Absent: for each of those the budget counts apart.
    #[serde(default)]
    pub whom: Option<String>,
    /// For how long: `2h`.
    #[serde(rename = "for")]
    pub lasts: String,
    /// Why: kept with it.
    #[serde(default)]
    pub reason: String,
}

/// Money, or a whole number of something else.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Amount {
    /// So many.
    Count(i64),
    /// So much: `"5 USD"`.
    Money(String),
}

/// A raise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RaiseView {
    /// Its number.
    pub id: i64,
    /// The budget.
    pub budget: String,
    /// For whom; absent: for each of those the budget counts apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whom: Option<String>,
    /// Of this unit.
    pub unit: String,
    /// By how much, in the unit.
    pub amount: i64,
    /// From when, in seconds since 1970.
    pub from: i64,
    /// Until when, in seconds since 1970.
    pub until: i64,
    /// Who raised it.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl Operations {
    /// The same with the budgets' books.
    #[must_use]
    pub fn with_ledger(self, ledger: Ledger) -> Self {
        Self { ledger: Some(ledger), ..self }
    }

    /// The budgets' books, if it has them.
    #[cfg(test)]
    pub(crate) fn budgets_ledger(&self) -> Option<&Ledger> {
        self.ledger.as_ref()
    }

    fn ledger(&self) -> Result<&Ledger, OperationError> {
        Ok(self.ledger.as_ref().ok_or(StoreError::Closed)?)
    }

    /// What the accounts of a budget have used: of one, or of all there are.
    pub async fn budget_accounts(
        &self,
        (budget, whom): (Option<&str>, Option<&str>),
        page: &Page,
    ) -> Result<Listed<BudgetAccount>, OperationError> {
        let filter = BalanceFilter { budget: budget.map(str::to_owned), whom: whom.map(str::to_owned) };
        let balances = self.ledger()?.balances(&filter, page).await?;
        Ok(Listed { items: balances.items.iter().map(account).collect(), next: balances.next })
    }

    /// The raises in force, of one budget or of all.
    pub async fn budget_raises(&self, budget: Option<&str>) -> Result<Vec<RaiseView>, OperationError> {
        Ok(self.ledger()?.raises(budget).await?.into_iter().map(raise_view).collect())
    }

    /// Raise a budget for a while.
    pub async fn budget_raise(&self, raise: &RaiseBudget, by: &str) -> Result<RaiseView, OperationError> {
        let budget = raise.budget.as_str();
        self.known_budget(budget).await?;
        let unit = raise.unit.as_deref().unwrap_or(Unit::NanoUsd.as_str());
        let unit = Unit::parse(unit).ok_or_else(|| OperationError::value("unit", "there is no such unit"))?;
        let amount = match (&raise.amount, unit) {
            (Amount::Money(text), Unit::NanoUsd) => {
                let money = Money::parse(text).map_err(|error| OperationError::value("amount", error.to_string()))?;
                i64::try_from(money.nano_usd()).unwrap_or(i64::MAX)
            }
            (Amount::Count(count), unit) if unit != Unit::NanoUsd => *count,
            _ => return Err(OperationError::value("amount", "write \"5 USD\", or a whole number of another unit")),
        };
        if amount < 1 {
            return Err(OperationError::value("amount", "more than nothing belongs here"));
        }
        let lasts: Span = raise.lasts.parse().map_err(|_| OperationError::value("for", "write a duration: \"2h\""))?;
        if lasts > LONGEST || lasts < Span::secs(1) {
            return Err(OperationError::value("for", "from 1s to 366d"));
        }
        let now = self.clock.now();
        let until = now.plus(lasts.duration());
        let new = NewRaise {
            budget: budget.to_owned(),
            whom: raise.whom.clone(),
            unit,
            window: None,
            amount,
            until,
            by: by.to_owned(),
            reason: raise.reason.clone(),
        };
        let before = self.raised(budget, raise.whom.as_deref(), unit).await?;
        let id = self.ledger()?.raise(new).await?;
        let after = self.raised(budget, raise.whom.as_deref(), unit).await?;
        let event = self.about_raise("budget.raised", (budget, raise.whom.as_deref(), unit), by);
        let event = event.with("raise", id).with("amount", amount).with("until", until.rfc3339());
        self.audit.noted(event.with("raised_before", before).with("raised_after", after)).await;
        tracing::info!(target: "audit", by, budget, unit = unit.as_str(), amount, until = until.as_secs(), "budget raised");
        Ok(RaiseView {
            id,
            budget: budget.to_owned(),
            whom: raise.whom.clone(),
            unit: unit.as_str().to_owned(),
            amount,
            from: now.as_secs(),
            until: until.as_secs(),
            by: by.to_owned(),
            reason: raise.reason.clone(),
        })
    }

    /// End a raise now.
    pub async fn budget_raise_end(&self, id: &str, by: &str) -> Result<(), OperationError> {
        let missing = || OperationError::NotFound { kind: "raise", name: id.to_owned() };
        let number: i64 = id.parse().map_err(|_| missing())?;
        let all = self.ledger()?.raises(None).await?;
        let raise = all.iter().find(|raise| raise.id == number).ok_or_else(missing)?;
        let (budget, whom) = (raise.budget.as_str(), raise.whom.as_deref());
        let before = self.raised(budget, whom, raise.unit).await?;
        self.ledger()?.end_raise(number).await.map_err(|error| match error {
            StoreError::Missing(_) => missing(),
            other => other.into(),
        })?;
        let after = self.raised(budget, whom, raise.unit).await?;
        let event = self.about_raise("budget.raise_ended", (budget, whom, raise.unit), by);
        let event = event.with("raise", number).with("amount", raise.amount);
        self.audit.noted(event.with("raised_before", before).with("raised_after", after)).await;
        tracing::info!(target: "audit", by, raise = number, "raise of a budget ended");
        Ok(())
    }

    /// A budget that is configured, or has accounts: a raise of anything else would be a mistake nobody notices.
    async fn known_budget(&self, budget: &str) -> Result<(), OperationError> {
        let config = self.current_config().await?;
        if config.budgets.iter().any(|known| known.name.as_str() == budget) {
            return Ok(());
        }
        let accounts = self.budget_accounts((Some(budget), None), &Page::first(1)).await?;
        if accounts.items.is_empty() {
            return Err(OperationError::NotFound { kind: "budget", name: budget.to_owned() });
        }
        Ok(())
    }

    /// By how much the raises in force raise an account.
    async fn raised(&self, budget: &str, whom: Option<&str>, unit: Unit) -> Result<i64, OperationError> {
        let raises = self.ledger()?.raises(Some(budget)).await?;
        let counts = |raise: &&Raise| raise.unit == unit && (raise.whom.is_none() || raise.whom.as_deref() == whom);
        Ok(raises.iter().filter(counts).map(|raise| raise.amount).fold(0, i64::saturating_add))
    }

    /// For whom it is may name a person: the log has a keyed hash of it.
    fn about_raise(&self, kind: &'static str, (budget, whom, unit): (&str, Option<&str>, Unit), by: &str) -> Event {
        let hashed =
            |whom: &str| URL_SAFE_NO_PAD.encode(self.vault.keyed_hash(HashPurpose::AuditValue, whom.as_bytes()));
        let event = Event::new(kind).by(by).with("budget", budget).with("unit", unit.as_str());
        event.maybe("whom_hash", whom.map(hashed))
    }
}

fn account(balance: &Balance) -> BudgetAccount {
    BudgetAccount {
        budget: balance.key.budget.to_string(),
        whom: balance.key.whom.to_string(),
        unit: balance.key.unit.as_str().to_owned(),
        window: window(balance.key.window),
        limit: balance.limit,
        raised: balance.raised,
        spent: balance.spent,
        held: balance.held,
        leased: balance.leased,
        remaining: balance.remaining(),
        resets: balance.resets.map(Timestamp::as_secs),
    }
}

fn window(window: Window) -> String {
    match window {
        Window::Calendar(Period::Hour) => "hour".to_owned(),
        Window::Calendar(Period::Day) => "day".to_owned(),
        Window::Calendar(Period::Week) => "week".to_owned(),
        Window::Calendar(Period::Month) => "month".to_owned(),
        Window::Total => "total".to_owned(),
        Window::Rolling(length) => Span::new(length).to_string(),
    }
}

fn raise_view(raise: Raise) -> RaiseView {
    RaiseView {
        id: raise.id,
        budget: raise.budget,
        whom: raise.whom,
        unit: raise.unit.as_str().to_owned(),
        amount: raise.amount,
        from: raise.from.as_secs(),
        until: raise.until.as_secs(),
        by: raise.by,
        reason: raise.reason,
    }
}
