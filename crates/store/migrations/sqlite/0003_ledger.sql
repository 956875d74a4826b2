-- The ledger of budgets. Amounts are in the account's unit (nano-USD, tokens, requests, milliseconds) and never negative;
-- times are milliseconds since the Unix epoch, UTC. See docs/budgets.md, "How the ledger counts".

-- A process that leases. Its epoch grows with each start; what an older epoch asks for is refused.
CREATE TABLE ledger_nodes (
    tenant     TEXT    NOT NULL,
    node       TEXT    NOT NULL,
    epoch      INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, node)
) STRICT;

-- One budget over one window, in one unit, for one of those it counts apart. Locked first by whoever changes its rows.
CREATE TABLE ledger_accounts (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant     TEXT    NOT NULL,
    budget     TEXT    NOT NULL,
    whom       TEXT    NOT NULL,
    unit       TEXT    NOT NULL,
    span       TEXT    NOT NULL,
    cap        INTEGER NOT NULL,
    touched_at INTEGER NOT NULL,
    wanted_at  INTEGER NOT NULL,
    wanted_by  TEXT    NOT NULL,
    UNIQUE (tenant, budget, whom, unit, span)
) STRICT;
CREATE INDEX ledger_accounts_wanted ON ledger_accounts (tenant, wanted_at);

-- What an account has used in one period: a calendar period, a part of a rolling window, or all time.
CREATE TABLE ledger_periods (
    tenant  TEXT    NOT NULL,
    account INTEGER NOT NULL,
    period  INTEGER NOT NULL,
    spent   INTEGER NOT NULL,
    held    INTEGER NOT NULL,
    leased  INTEGER NOT NULL,
    cap     INTEGER NOT NULL,
    PRIMARY KEY (tenant, account, period),
    FOREIGN KEY (account) REFERENCES ledger_accounts (id) ON DELETE CASCADE,
    CHECK (spent >= 0 AND held >= 0 AND leased >= 0 AND spent + held + leased <= cap)
) STRICT;

-- A block a node may spend. `amount` is what of it is still leased, `charged` what of it has become spent; `unproven`
-- was charged in full after the node went silent, until its journal says what it was.
CREATE TABLE ledger_leases (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant   TEXT    NOT NULL,
    account  INTEGER NOT NULL,
    period   INTEGER NOT NULL,
    node     TEXT    NOT NULL,
    epoch    INTEGER NOT NULL,
    amount   INTEGER NOT NULL CHECK (amount >= 0),
    charged  INTEGER NOT NULL CHECK (charged >= 0),
    unproven INTEGER NOT NULL CHECK (unproven >= 0),
    state    TEXT    NOT NULL CHECK (state IN ('open', 'charged', 'closed')),
    taken_at INTEGER NOT NULL,
    FOREIGN KEY (account) REFERENCES ledger_accounts (id) ON DELETE CASCADE
) STRICT;
CREATE INDEX ledger_leases_node ON ledger_leases (tenant, node, state);
CREATE INDEX ledger_leases_period ON ledger_leases (tenant, account, period);

-- Appended to, never changed. The sums of an account's entries are its rows.
CREATE TABLE ledger_entries (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant  TEXT    NOT NULL,
    account INTEGER NOT NULL,
    period  INTEGER NOT NULL,
    lease   INTEGER,
    kind    TEXT    NOT NULL,
    spent   INTEGER NOT NULL,
    held    INTEGER NOT NULL,
    leased  INTEGER NOT NULL,
    request TEXT,
    at      INTEGER NOT NULL,
    FOREIGN KEY (account) REFERENCES ledger_accounts (id) ON DELETE CASCADE
) STRICT;
CREATE INDEX ledger_entries_period ON ledger_entries (tenant, account, period);

-- A request whose end nobody knows yet, or which was charged by estimate and corrected: `whole` is what it held, `prepaid`
-- what of that had become spent already, `amount` the rest.
CREATE TABLE ledger_unresolved (
    tenant  TEXT    NOT NULL,
    request TEXT    NOT NULL,
    lease   INTEGER NOT NULL,
    account INTEGER NOT NULL,
    period  INTEGER NOT NULL,
    amount  INTEGER NOT NULL CHECK (amount >= 0),
    prepaid INTEGER NOT NULL CHECK (prepaid >= 0),
    whole   INTEGER NOT NULL CHECK (whole >= 0),
    state   TEXT    NOT NULL CHECK (state IN ('held', 'charged', 'released', 'settled')),
    at      INTEGER NOT NULL,
    PRIMARY KEY (tenant, request, lease),
    FOREIGN KEY (account) REFERENCES ledger_accounts (id) ON DELETE CASCADE
) STRICT;
CREATE INDEX ledger_unresolved_held ON ledger_unresolved (tenant, state, at);
CREATE INDEX ledger_unresolved_account ON ledger_unresolved (account, period);

-- More for a budget until a moment. Without `whom`: for each of those it counts apart; without `span`: in each window.
CREATE TABLE ledger_raises (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant    TEXT    NOT NULL,
    budget    TEXT    NOT NULL,
    whom      TEXT,
    unit      TEXT    NOT NULL,
    span      TEXT,
    amount    INTEGER NOT NULL CHECK (amount > 0),
    starts_at INTEGER NOT NULL,
    ends_at   INTEGER NOT NULL,
    made_by   TEXT    NOT NULL,
    reason    TEXT    NOT NULL
) STRICT;
CREATE INDEX ledger_raises_budget ON ledger_raises (tenant, budget, unit);
