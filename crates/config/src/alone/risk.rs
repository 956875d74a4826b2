//! Rules about flags that say something.

use base::Span;

use super::{between, own_name, twice};
use crate::fault::{Code, Faults};
use crate::resource::Alone;
use crate::{
    FlagKind, FlagName, FlagWord, ForcedPass, Grace, Risk, RiskAction, RiskMode, RiskRule, RiskUnless, RiskWhen,
};

impl Alone for Risk {
    fn alone(&self, faults: &mut Faults) {
        own_name(self.name.as_str(), faults);
        if self.canary.is_some() && self.mode == RiskMode::Observe {
            faults
                .add("canary", Code::Conflict, "a set that observes is enforced for nobody")
                .hint("leave it out, or write mode = \"enforce\"");
        }
        for (index, rule) in self.rules.iter().enumerate() {
            rule.alone(&format!("rules[{index}]"), faults);
        }
        between(
            self.grace.revocation_list_max_age,
            Span::secs(3600),
            Grace::LONGEST,
            "grace.revocation_list_max_age",
            faults,
        );
        let month = Span::secs(30 * 86_400);
        between(self.grace.config_update, Span::secs(60), month, "grace.config_update", faults);
        between(self.grace.reattestation, Span::secs(0), Grace::LONGEST, "grace.reattestation", faults);
        between(self.forced_pass.longest, Span::secs(60), ForcedPass::LONGEST, "forced_pass.longest", faults);
    }
}

impl RiskRule {
    fn alone(&self, at: &str, faults: &mut Faults) {
        self.when.alone(&format!("{at}.when"), faults);
        twice(&self.when.platform, &format!("{at}.when.platform"), faults);
        if let Some(unless) = &self.unless {
            unless.alone(&format!("{at}.unless"), faults);
        }
        let has = [
            (RiskAction::Annotate, "as", self.annotation.is_some(), "the word for tokens"),
            (RiskAction::Throttle, "to", self.throttle.is_some(), "to how much: { rpm = 5, usd_day = \"0.10 USD\" }"),
            (RiskAction::StepUp, "with", !self.evidence.is_empty(), "what has to be shown: \"altcha\""),
        ];
        for (action, key, given, what) in has {
            if given && self.action != action {
                faults
                    .add(format!("{at}.{key}"), Code::Conflict, format!("only do = {:?} has this", action.as_str()))
                    .at_key();
            } else if !given && self.action == action {
                faults.add(at, Code::MissingKey, format!("the key {key} is missing")).hint(what);
            }
        }
        if self.throttle.is_some_and(|throttle| throttle.rpm.is_none() && throttle.usd_day.is_none()) {
            faults.add(format!("{at}.to"), Code::MissingKey, "it limits nothing").hint("give rpm, usd_day or both");
        }
        twice(&self.evidence, &format!("{at}.with"), faults);
        match self.lasts {
            Some(_) if self.action != RiskAction::StepUp => {
                faults.add(format!("{at}.for"), Code::Conflict, "only do = \"step_up\" has this").at_key();
            }
            Some(lasts) => between(lasts, Span::secs(60), Span::secs(30 * 86_400), &format!("{at}.for"), faults),
            None => {}
        }
    }
}

impl RiskWhen {
    fn alone(&self, at: &str, faults: &mut Faults) {
        let named = [self.flag.is_some(), !self.any.is_empty(), !self.all.is_empty()];
        match named.into_iter().filter(|named| *named).count() {
            1 => {}
            0 => {
                faults.add(at, Code::MissingKey, "it names no flag").hint("give one of flag, any, all");
            }
            _ => {
                faults.add(at, Code::Conflict, "flag, any and all exclude each other").hint("write a rule for each");
            }
        }
        self.compares(at, faults);
        for (key, list) in [("any", &self.any), ("all", &self.all)] {
            twice(list, &format!("{at}.{key}"), faults);
            for (index, flag) in list.iter().enumerate().filter(|(_, flag)| flag.kind() == FlagKind::Number) {
                faults
                    .add(format!("{at}.{key}[{index}]"), Code::BadValue, format!("{flag} is a number"))
                    .hint(format!("compare it: {{ flag = \"{flag}\", gt = 1 }}"));
            }
        }
    }

    /// What is compared fits what the flag says.
    fn compares(&self, at: &str, faults: &mut Faults) {
        let compared = [
            ("gt", self.gt.is_some()),
            ("lt", self.lt.is_some()),
            ("in", !self.is_in.is_empty()),
            ("not_in", !self.not_in.is_empty()),
        ];
        let given: Vec<&str> = compared.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect();
        let Some(flag) = self.flag else {
            for key in given {
                faults.add(format!("{at}.{key}"), Code::Conflict, "it goes with flag only").at_key();
            }
            return;
        };
        let wrong = |key: &&&str| match flag.kind() {
            FlagKind::Set => true,
            FlagKind::Number => false,
            FlagKind::Text => matches!(**key, "gt" | "lt"),
        };
        for key in given.iter().filter(wrong) {
            let message = match flag.kind() {
                FlagKind::Set => format!("{flag} is there or not, it has no value"),
                _ => format!("{flag} is a word"),
            };
            faults.add(format!("{at}.{key}"), Code::BadValue, message).at_key();
        }
        if flag.kind() == FlagKind::Number && given.is_empty() {
            faults.add(at, Code::MissingKey, format!("{flag} is a number")).hint("compare it: gt, lt, in or not_in");
        }
        if self.gt.zip(self.lt).is_some_and(|(gt, lt)| lt.saturating_sub(gt) < 2) {
            faults.add(format!("{at}.lt"), Code::Conflict, "no number is greater and less at once");
        }
        for (key, words) in [("in", &self.is_in), ("not_in", &self.not_in)] {
            for (index, word) in words.iter().enumerate() {
                let message = match (flag.kind(), word) {
                    (FlagKind::Number, FlagWord::Text(_)) => "a whole number belongs here",
                    (FlagKind::Text, FlagWord::Number(_)) => "a text belongs here",
                    _ => continue,
                };
                faults.add(format!("{at}.{key}[{index}]"), Code::BadValue, message);
            }
        }
    }
}

impl RiskUnless {
    fn alone(&self, at: &str, faults: &mut Faults) {
        let flags = self.flags();
        if self.verified_boot_key_in.is_empty() || flags != RiskWhen::default() {
            flags.alone(at, faults);
        }
        let one = self.flag.into_iter().map(|flag| (format!("{at}.flag"), flag));
        let lists = [("any", &self.any), ("all", &self.all)];
        let listed = lists.into_iter().flat_map(|(key, list)| {
            list.iter().enumerate().map(move |(index, flag)| (format!("{at}.{key}[{index}]"), *flag))
        });
        let all: Vec<(String, FlagName)> = one.chain(listed).collect();
        for (path, flag) in all.into_iter().filter(|(_, flag)| flag.is_reported()) {
            faults.add(path, Code::Conflict, format!("{flag} is the client's own word: it can only make things worse"));
        }
    }
}
