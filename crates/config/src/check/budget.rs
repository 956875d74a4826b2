//! What budgets need of others.

use super::World;
use crate::fault::{Code, Faults};
use crate::{Budget, OWN_NAME};

impl World<'_> {
    /// A budget counts what there is: names that nobody has would make one that never counts.
    pub(super) fn budget(&self, path: &str, budget: &Budget, faults: &mut Faults) {
        let over = &budget.over;
        for (index, issuer) in over.issuer.iter().enumerate() {
            if issuer.is_literal() && issuer.as_str() != OWN_NAME {
                self.issuers.need(issuer.as_str(), format!("{path}.over.issuer[{index}]"), faults);
            }
        }
        for (index, provider) in over.provider.iter().enumerate() {
            if provider.is_literal() && provider.as_str() != OWN_NAME {
                self.providers.need(provider.as_str(), format!("{path}.over.provider[{index}]"), faults);
            }
        }
        self.policies.need_all(&over.policy, &format!("{path}.over.policy"), faults);
        self.services.need_all(&over.service, &format!("{path}.over.service"), faults);
        self.upstreams.need_all(&over.upstream, &format!("{path}.over.upstream"), faults);
        for (index, model) in over.model.iter().enumerate().filter(|(_, model)| model.is_literal()) {
            self.need_model(model.as_str(), format!("{path}.over.model[{index}]"), faults);
        }
        let tags: Vec<&str> =
            self.policies.iter().flat_map(|(_, policy)| policy.tags.iter().map(String::as_str)).collect();
        for (index, tag) in over.tag.iter().enumerate().filter(|(_, tag)| tag.is_literal()) {
            if !tags.contains(&tag.as_str()) {
                let message = format!("no policy has the tag {:?}", tag.as_str());
                faults.add(format!("{path}.over.tag[{index}]"), Code::UnknownReference, message);
            }
        }
    }
}
