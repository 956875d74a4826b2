//! Units and windows of budgets, as the configuration and as the ledger name them.

use config::{BudgetUnit, BudgetWindow};
use store::{Period, Unit, Window};

pub(super) fn ledger_unit(unit: BudgetUnit) -> Unit {
    match unit {
        BudgetUnit::Money => Unit::NanoUsd,
        BudgetUnit::Tokens => Unit::Tokens,
        BudgetUnit::InputTokens => Unit::InputTokens,
        BudgetUnit::OutputTokens => Unit::OutputTokens,
        BudgetUnit::Requests => Unit::Requests,
        BudgetUnit::Audio => Unit::AudioMs,
    }
}

pub(super) fn budget_unit(unit: Unit) -> BudgetUnit {
    match unit {
        Unit::NanoUsd => BudgetUnit::Money,
        Unit::Tokens => BudgetUnit::Tokens,
        Unit::InputTokens => BudgetUnit::InputTokens,
        Unit::OutputTokens => BudgetUnit::OutputTokens,
        Unit::Requests => BudgetUnit::Requests,
        Unit::AudioMs => BudgetUnit::Audio,
    }
}

pub(super) fn ledger_window(window: BudgetWindow) -> Window {
    match window {
        BudgetWindow::Rolling(span) => Window::Rolling(span.duration()),
        BudgetWindow::Hour => Window::Calendar(Period::Hour),
        BudgetWindow::Day => Window::Calendar(Period::Day),
        BudgetWindow::Week => Window::Calendar(Period::Week),
        BudgetWindow::Month => Window::Calendar(Period::Month),
        BudgetWindow::Total => Window::Total,
    }
}
