//! What is kept, by kind: each as one tenant sees it.

use crate::{
    AdminTokens, ApiKeys, AppConfigs, AuditSubjects, Clients, ForcedPasses, Habits, Idempotency, Instances,
    JwksLastGood, KnownKeys, Meta, Outbox, Receipts, Records, Refresh, Resources, Revocations, RiskDecisions,
    RuntimeSecrets, SealedValues, Secrets, SigningKeys, StepUps, Stops, Store, StoredObjects, Usage, UsedOnce,
};

impl Store {
    /// Secrets that apps use at run time.
    pub fn runtime_secrets(&self) -> RuntimeSecrets<'_> {
        RuntimeSecrets(self)
    }

    /// Messages for webhooks.
    pub fn outbox(&self) -> Outbox<'_> {
        Outbox(self)
    }

    /// What apps are told over the air, and the keys that sign it.
    pub fn app_configs(&self) -> AppConfigs<'_> {
        AppConfigs(self)
    }

    /// Callers that are or were stopped because they behave quite unlike themselves.
    pub fn stops(&self) -> Stops<'_> {
        Stops(self)
    }

    /// What callers did before.
    pub fn habits(&self) -> Habits<'_> {
        Habits(self)
    }

    /// What was decided about instances of apps.
    pub fn risk_decisions(&self) -> RiskDecisions<'_> {
        RiskDecisions(self)
    }

    /// Receipts of App Attest.
    pub fn receipts(&self) -> Receipts<'_> {
        Receipts(self)
    }

    /// What instances of apps showed besides their evidence.
    pub fn step_ups(&self) -> StepUps<'_> {
        StepUps(self)
    }

    /// Leave that operators gave instances of apps.
    pub fn forced_passes(&self) -> ForcedPasses<'_> {
        ForcedPasses(self)
    }

    /// Clients that may ask us for tokens.
    pub fn clients(&self) -> Clients<'_> {
        Clients(self)
    }

    /// Vouchgate keys (`vg_...`).
    pub fn api_keys(&self) -> ApiKeys<'_> {
        ApiKeys(self)
    }

    /// Sealed secrets.
    pub fn secrets(&self) -> Secrets<'_> {
        Secrets(self)
    }

    /// Sealed values, whatever they are.
    pub fn sealed(&self) -> SealedValues<'_> {
        SealedValues(self)
    }

    /// Since when keys are known that say it nowhere.
    pub fn known_keys(&self) -> KnownKeys<'_> {
        KnownKeys(self)
    }

    /// The keys our tokens are signed with.
    pub fn signing_keys(&self) -> SigningKeys<'_> {
        SigningKeys(self)
    }

    /// What each request was: metadata only.
    pub fn records(&self) -> Records<'_> {
        Records(self)
    }

    /// What requests took and cost, in sums.
    pub fn usage(&self) -> Usage<'_> {
        Usage(self)
    }

    /// Resources made through the admin API.
    pub fn resources(&self) -> Resources<'_> {
        Resources(self)
    }

    /// The last good key set of each issuer.
    pub fn jwks_last_good(&self) -> JwksLastGood<'_> {
        JwksLastGood(self)
    }

    /// Who made what a provider stores.
    pub fn stored_objects(&self) -> StoredObjects<'_> {
        StoredObjects(self)
    }

    /// Tokens of the admin API.
    pub fn admin_tokens(&self) -> AdminTokens<'_> {
        AdminTokens(self)
    }

    /// Answers kept for their `Idempotency-Key`.
    pub fn idempotency(&self) -> Idempotency<'_> {
        Idempotency(self)
    }

    /// What may be used once, remembered across restarts.
    pub fn used_once(&self) -> UsedOnce<'_> {
        UsedOnce(self)
    }

    /// Revocations as they are kept: to revoke, list and lift.
    pub fn revocations(&self) -> Revocations<'_> {
        Revocations(self)
    }

    /// Refresh tokens.
    pub fn refresh(&self) -> Refresh<'_> {
        Refresh(self)
    }

    /// Whom the audit log speaks of.
    pub fn audit_subjects(&self) -> AuditSubjects<'_> {
        AuditSubjects(self)
    }

    /// Installations of apps that proved what they are.
    pub fn instances(&self) -> Instances<'_> {
        Instances(self)
    }

    /// Small facts about the installation.
    pub fn meta(&self) -> Meta<'_> {
        Meta(self)
    }
}
