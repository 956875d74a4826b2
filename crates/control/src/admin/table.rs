//! Every operation of the admin API, once: its path, who may, what it takes and gives, and what it does.

mod app_configs;
mod credentials;
mod keys;
mod risk;
mod usage;

use std::sync::LazyLock;

use http::{Method, StatusCode};
use store::Role;

use super::call::{Call, Reply};
use super::server::Pending;
use super::{Refusal, handlers};
use crate::operations::Kind;

/// One operation.
pub struct Operation {
    /// Its method: GET, PUT, POST or DELETE.
    pub method: Method,
    /// Its path, with `{name}` where a name goes.
    pub path: String,
    /// Its `operationId`.
    pub id: &'static str,
    /// What it does, in one line.
    pub summary: String,
    /// Who may.
    pub access: Access,
    /// The parameters its query may have.
    pub query: &'static [&'static str],
    /// The schema of the body it takes; absent: it takes none.
    pub request: Option<&'static str>,
    /// The status of its success.
    pub success: StatusCode,
    /// What it answers.
    pub answer: Answer,
    /// The kind of resource it is about, for those that work alike on all kinds.
    pub(super) kind: Option<Kind>,
    /// A POST that changes nothing.
    pub(super) only_looks: bool,
    pub(super) run: Run,
}

/// What does an operation's work.
pub(super) type Run = for<'a> fn(&'a Call) -> Pending<'a, Result<Reply, Refusal>>;

/// Who may use an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Bearers of a token with one of these roles.
    Roles(&'static [Role]),
    /// They, and anything that runs on this machine and not behind a proxy on it, without a token: what monitoring reads.
    LoopbackOr(&'static [Role]),
}

impl Access {
    /// The roles that may.
    pub const fn roles(self) -> &'static [Role] {
        match self {
            Self::Roles(roles) | Self::LoopbackOr(roles) => roles,
        }
    }
}

/// What an operation answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Nothing.
    Empty,
    /// One object of this schema.
    One(&'static str),
    /// A page of objects of this schema.
    Page(&'static str),
    /// Text.
    Text,
    /// Bytes.
    Bytes,
}

const EVERYBODY: Access = Access::Roles(&Role::ALL);
const READERS: Access = Access::Roles(&[Role::Owner, Role::Operator, Role::Auditor]);
const WRITERS: Access = Access::Roles(&[Role::Owner, Role::Operator]);
const OWNERS: Access = Access::Roles(&[Role::Owner]);
const OWNERS_AND_AUDITORS: Access = Access::Roles(&[Role::Owner, Role::Auditor]);

const PAGED: &[&str] = &["limit", "cursor"];

/// Every operation of the admin API.
pub static TABLE: LazyLock<Vec<Operation>> = LazyLock::new(|| {
    let mut table = Vec::new();
    for kind in Kind::ALL {
        table.extend(resource(kind));
    }
    table.extend(credentials::operations());
    table.extend(keys::operations());
    table.extend(rotation());
    table.extend(admin_tokens());
    table.extend(audit_log());
    table.extend(budgets());
    table.extend(usage::operations());
    table.extend(anomalies());
    table.extend(app_configs::operations());
    table.extend(risk::operations());
    table.extend(devices());
    table.extend(installation());
    table.push(catalogue());
    table
});

/// An operation that takes no query and no body and answers one object.
fn operation(method: Method, path: &str, id: &'static str, access: Access, run: Run) -> Operation {
    Operation {
        method,
        path: path.to_owned(),
        id,
        summary: String::new(),
        access,
        query: &[],
        request: None,
        success: StatusCode::OK,
        answer: Answer::Empty,
        kind: None,
        only_looks: false,
        run,
    }
}

impl Operation {
    fn summary(mut self, summary: impl Into<String>) -> Self {
        self.summary = summary.into();
        self
    }

    fn looks(mut self) -> Self {
        self.only_looks = true;
        self
    }

    fn takes(mut self, schema: &'static str) -> Self {
        self.request = Some(schema);
        self
    }

    fn gives(mut self, status: StatusCode, answer: Answer) -> Self {
        (self.success, self.answer) = (status, answer);
        self
    }

    fn one(self, schema: &'static str) -> Self {
        self.gives(StatusCode::OK, Answer::One(schema))
    }

    fn page(mut self, schema: &'static str) -> Self {
        self.query = PAGED;
        self.gives(StatusCode::OK, Answer::Page(schema))
    }

    fn deletes(self) -> Self {
        self.gives(StatusCode::NO_CONTENT, Answer::Empty)
    }
}

impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

fn resource(kind: Kind) -> [Operation; 4] {
    let (one, many, schema) = (kind.as_str(), kind.plural(), kind.schema_name());
    let (all, each) = (format!("/admin/v1/{many}"), format!("/admin/v1/{many}/{{name}}"));
    let [list, get, put, delete] = match kind {
        Kind::Issuer => ["listIssuers", "getIssuer", "putIssuer", "deleteIssuer"],
        Kind::App => ["listApps", "getApp", "putApp", "deleteApp"],
        Kind::Provider => ["listProviders", "getProvider", "putProvider", "deleteProvider"],
        Kind::Model => ["listModels", "getModel", "putModel", "deleteModel"],
        Kind::Policy => ["listPolicies", "getPolicy", "putPolicy", "deletePolicy"],
        Kind::Risk => ["listRisks", "getRisk", "putRisk", "deleteRisk"],
        Kind::Budget => ["listBudgets", "getBudget", "putBudget", "deleteBudget"],
        Kind::Service => ["listServices", "getService", "putService", "deleteService"],
        Kind::Upstream => ["listUpstreams", "getUpstream", "putUpstream", "deleteUpstream"],
        Kind::RuntimeSecret => ["listRuntimeSecrets", "getRuntimeSecret", "putRuntimeSecret", "deleteRuntimeSecret"],
        Kind::Transmitter => ["listTransmitters", "getTransmitter", "putTransmitter", "deleteTransmitter"],
        Kind::Webhook => ["listWebhooks", "getWebhook", "putWebhook", "deleteWebhook"],
        Kind::Pins => ["listPins", "getPins", "putPins", "deletePins"],
    };
    let mut operations = [
        operation(Method::GET, &all, list, EVERYBODY, |call| Box::pin(handlers::resources::list(call)))
            .summary(format!("List the {many} of the configuration file and of this API"))
            .page(schema),
        operation(Method::GET, &each, get, EVERYBODY, |call| Box::pin(handlers::resources::get(call)))
            .summary(format!("Get one {one}"))
            .one(schema),
        operation(Method::PUT, &each, put, WRITERS, |call| Box::pin(handlers::resources::put(call)))
            .summary(format!("Make or replace a {one}; those of the configuration file are read-only"))
            .takes(schema)
            .one(schema),
        operation(Method::DELETE, &each, delete, WRITERS, |call| Box::pin(handlers::resources::delete(call)))
            .summary(format!("Delete a {one} that nothing needs"))
            .deletes(),
    ];
    for operation in &mut operations {
        operation.kind = Some(kind);
    }
    operations
}

fn rotation() -> [Operation; 2] {
    [
        operation(Method::GET, "/admin/v1/rotation", "listRotation", READERS, |call| {
            Box::pin(handlers::rotation::list(call))
        })
        .summary("How old every key is, in which state, and what is due; never a key")
        .gives(StatusCode::OK, Answer::Page("RotationView")),
        operation(Method::POST, "/admin/v1/vault/rewrap", "rewrapVault", OWNERS, |call| {
            Box::pin(handlers::rotation::rewrap(call))
        })
        .summary("Seal everything anew with the vault's newest master key")
        .one("RewrapView"),
    ]
}

fn admin_tokens() -> [Operation; 3] {
    const ALL: &str = "/admin/v1/admin-tokens";
    [
        operation(Method::GET, ALL, "listAdminTokens", OWNERS_AND_AUDITORS, |call| {
            Box::pin(handlers::admin_tokens::list(call))
        })
        .summary("List admin tokens, revoked ones too; never the tokens themselves")
        .page("AdminTokenView"),
        operation(Method::POST, ALL, "createAdminToken", OWNERS, |call| Box::pin(handlers::admin_tokens::create(call)))
            .summary("Make an admin token, shown this once")
            .takes("CreateAdminToken")
            .gives(StatusCode::CREATED, Answer::One("IssuedAdminToken")),
        operation(Method::DELETE, "/admin/v1/admin-tokens/{name}", "revokeAdminToken", OWNERS, |call| {
            Box::pin(handlers::admin_tokens::revoke(call))
        })
        .summary("Refuse an admin token from now on")
        .one("AdminTokenView"),
    ]
}

fn audit_log() -> [Operation; 7] {
    let mut entries = operation(Method::GET, "/admin/v1/audit", "listAudit", OWNERS_AND_AUDITORS, |call| {
        Box::pin(handlers::audit::list(call))
    })
    .summary(
        "List entries of the audit log, newest first; open=true opens what is sealed in them, and is itself an entry",
    )
    .page("AuditEntryView");
    entries.query =
        &["limit", "cursor", "since", "until", "kind", "request_id", "client", "issuer", "subject", "ip", "open"];
    [
        entries,
        operation(Method::GET, "/admin/v1/audit/{name}", "getAudit", OWNERS_AND_AUDITORS, |call| {
            Box::pin(handlers::audit::get(call))
        })
        .summary("Get one entry by its index, with what is sealed in it opened; that is itself an entry")
        .one("AuditEntryView"),
        operation(Method::GET, "/admin/v1/audit/{name}/proof", "getAuditProof", READERS, |call| {
            Box::pin(handlers::audit::proof(call))
        })
        .summary("Get the proof that an entry is in the log")
        .one("AuditProofView"),
        operation(Method::GET, "/admin/v1/audit-checkpoint", "getAuditCheckpoint", READERS, |call| {
            Box::pin(handlers::audit::checkpoint(call))
        })
        .summary("Sign a checkpoint of all that is in the audit log now, and get it")
        .one("AuditCheckpointView"),
        operation(Method::GET, "/admin/v1/audit-keys", "listAuditKeys", READERS, |call| {
            Box::pin(handlers::audit::keys(call))
        })
        .summary("List the key of every audit log")
        .page("AuditKeyView"),
        operation(Method::POST, "/admin/v1/audit-key-replacements", "replaceAuditKey", OWNERS, |call| {
            Box::pin(handlers::audit::replace_key(call))
        })
        .summary("Replace the key that signs checkpoints: of this node's log at once, of others' as they hear of it")
        .takes("ReplaceAuditKey")
        .one("AuditKeyReplacementView"),
        operation(Method::POST, "/admin/v1/audit-erasures", "eraseAuditSubject", OWNERS, |call| {
            Box::pin(handlers::audit::erase(call))
        })
        .summary("Destroy the key of a subject, so that nothing the audit log says of it can be read any more")
        .takes("EraseSubject")
        .one("ErasedView"),
    ]
}

fn budgets() -> [Operation; 4] {
    let mut accounts = operation(Method::GET, "/admin/v1/budget-accounts", "listBudgetAccounts", READERS, |call| {
        Box::pin(handlers::budgets::accounts(call))
    })
    .summary("List what of each budget was used, is held and is left, for each of those it counts apart")
    .page("BudgetAccount");
    accounts.query = &["limit", "cursor", "budget", "whom"];
    let mut raises = operation(Method::GET, "/admin/v1/budget-raises", "listBudgetRaises", READERS, |call| {
        Box::pin(handlers::budgets::raises(call))
    })
    .summary("List the raises in force")
    .gives(StatusCode::OK, Answer::Page("RaiseView"));
    raises.query = &["budget"];
    [
        accounts,
        raises,
        operation(Method::POST, "/admin/v1/budget-raises", "raiseBudget", WRITERS, |call| {
            Box::pin(handlers::budgets::raise(call))
        })
        .summary("Raise a budget for a while; in force on all nodes within a second")
        .takes("RaiseBudget")
        .gives(StatusCode::CREATED, Answer::One("RaiseView")),
        operation(Method::DELETE, "/admin/v1/budget-raises/{name}", "endBudgetRaise", WRITERS, |call| {
            Box::pin(handlers::budgets::end(call))
        })
        .summary("End a raise now, by its number")
        .deletes(),
    ]
}

fn catalogue() -> Operation {
    let list = operation(Method::GET, "/admin/v1/catalogue", "listCatalogue", EVERYBODY, |call| {
        Box::pin(handlers::catalogue::list(call))
    });
    let list = list.summary(
        "List the models that the built-in table knows: prices, limits, abilities, each with its source and date",
    );
    Operation { query: &["limit", "cursor", "kind", "provider", "model"], ..list.page("CatalogueEntry") }
}

fn anomalies() -> [Operation; 2] {
    [
        operation(Method::GET, "/admin/v1/anomalies", "listAnomalies", READERS, |call| {
            Box::pin(handlers::anomalies::list(call))
        })
        .summary("List callers that are or were stopped because they behaved quite unlike themselves, newest first")
        .page("AnomalyView"),
        operation(Method::POST, "/admin/v1/anomalies/{name}/restore", "restoreAnomaly", WRITERS, |call| {
            Box::pin(handlers::anomalies::restore(call))
        })
        .summary("Let a caller in again, by the number of what stopped it or by whom; on all nodes within 5 seconds")
        .one("AnomalyView"),
    ]
}

fn devices() -> [Operation; 7] {
    const EACH: &str = "/admin/v1/devices/{name}";
    let mut list = operation(Method::GET, "/admin/v1/devices", "listDevices", READERS, |call| {
        Box::pin(handlers::devices::list(call))
    })
    .summary("List installations of apps; search finds ids, thumbprints and versions by how they begin")
    .page("DeviceView");
    list.query = &["limit", "cursor", "app", "status", "search"];
    let change = |path, id, run: super::table::Run, summary: &str| {
        operation(Method::POST, path, id, WRITERS, run).summary(summary).takes("ChangeDevice").one("DeviceView")
    };
    [
        list,
        operation(Method::GET, EACH, "getDevice", READERS, |call| Box::pin(handlers::devices::get(call)))
            .summary("Get one installation")
            .one("DeviceView"),
        change(
            "/admin/v1/devices/{name}/quarantine",
            "quarantineDevice",
            |call| Box::pin(handlers::devices::quarantine(call)),
            "Refuse an installation until it is released; its tokens end, on all nodes within 5 seconds",
        ),
        change(
            "/admin/v1/devices/{name}/release",
            "releaseDevice",
            |call| Box::pin(handlers::devices::release(call)),
            "Let an installation that is quarantined have tokens again",
        ),
        change(
            "/admin/v1/devices/{name}/revoke",
            "revokeDevice",
            |call| Box::pin(handlers::devices::revoke(call)),
            "Refuse an installation for good; its tokens end, on all nodes within 5 seconds",
        ),
        operation(Method::DELETE, EACH, "deleteDevice", WRITERS, |call| Box::pin(handlers::devices::delete(call)))
            .summary("Forget an installation; its tokens end")
            .deletes(),
        operation(Method::GET, "/admin/v1/arc/{name}", "getArc", READERS, |call| {
            Box::pin(handlers::devices::arc(call))
        })
        .summary("Say why an installation was refused, or what it was granted, by the code it was told")
        .one("ArcView"),
    ]
}

fn installation() -> [Operation; 8] {
    [
        operation(Method::POST, "/admin/v1/explain", "explain", EVERYBODY, |call| {
            Box::pin(handlers::installation::explain(call))
        })
        .summary("Say which policy decides for a caller, and why")
        .takes("ExplainRequest")
        .looks()
        .one("Explanation"),
        operation(Method::POST, "/admin/v1/routes/explain", "explainRoute", EVERYBODY, |call| {
            Box::pin(handlers::installation::explain_route(call))
        })
        .summary("Say which targets would answer a request, in which order, why, and how each is doing")
        .takes("RouteQuestion")
        .looks()
        .one("RouteExplanation"),
        operation(Method::POST, "/admin/v1/reload", "reload", WRITERS, |call| {
            Box::pin(handlers::installation::reload(call))
        })
        .summary("Read the configuration file again and put it in force as a whole, or change nothing")
        .deletes(),
        operation(Method::POST, "/admin/v1/cache/clear", "clearCache", WRITERS, |call| {
            Box::pin(handlers::installation::clear_cache(call))
        })
        .summary("Forget every answer that is kept for requests that are the same")
        .deletes(),
        operation(Method::GET, "/admin/v1/backup", "backup", OWNERS, |call| {
            Box::pin(handlers::installation::backup(call))
        })
        .summary("Get everything in the database and the audit log, as of now, sealed under the master key")
        .gives(StatusCode::OK, Answer::Bytes),
        operation(Method::GET, "/admin/v1/openapi.json", "openapi", EVERYBODY, |call| {
            Box::pin(handlers::installation::openapi(call))
        })
        .summary("Get this document")
        .one("Document"),
        operation(Method::GET, "/metrics", "metrics", Access::LoopbackOr(&Role::ALL), |call| {
            Box::pin(handlers::installation::metrics(call))
        })
        .summary("Get all metrics in the Prometheus text format")
        .gives(StatusCode::OK, Answer::Text),
        operation(Method::GET, "/readyz", "readyz", Access::LoopbackOr(&Role::ALL), |call| {
            Box::pin(handlers::installation::readyz(call))
        })
        .summary("Say whether the server can do its work, in detail; 503 if it cannot")
        .one("Readiness"),
    ]
}
