-- The ledger of budgets. Amounts are in the account's unit (nano-USD, tokens, requests, milliseconds) and never negative;
-- times are milliseconds since the Unix epoch, UTC. See docs/budgets.md, "How the ledger counts".

-- A process that leases. Its epoch grows with each start; what an older epoch asks for is refused.
CREATE TABLE ledger_nodes (
    tenant     TEXT COLLATE "C" NOT NULL,
    node       TEXT COLLATE "C" NOT NULL,
    epoch      BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, node)
);

-- One budget over one window, in one unit, for one of those it counts apart. Locked first by whoever changes its rows.
CREATE TABLE ledger_accounts (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant     TEXT COLLATE "C" NOT NULL,
    budget     TEXT COLLATE "C" NOT NULL,
    whom       TEXT COLLATE "C" NOT NULL,
    unit       TEXT COLLATE "C" NOT NULL,
    span       TEXT COLLATE "C" NOT NULL,
    cap        BIGINT NOT NULL,
    touched_at BIGINT NOT NULL,
    wanted_at  BIGINT NOT NULL,
    wanted_by  TEXT COLLATE "C" NOT NULL,
    UNIQUE (tenant, budget, whom, unit, span)
);
CREATE INDEX ledger_accounts_wanted ON ledger_accounts (tenant, wanted_at);

-- What an account has used in one period: a calendar period, a part of a rolling window, or all time.
CREATE TABLE ledger_periods (
    tenant  TEXT COLLATE "C" NOT NULL,
    account BIGINT NOT NULL,
    period  BIGINT NOT NULL,
    spent   BIGINT NOT NULL,
    held    BIGINT NOT NULL,
    leased  BIGINT NOT NULL,
    cap     BIGINT NOT NULL,
    PRIMARY KEY (tenant, account, period),
    FOREIGN KEY (account) REFERENCES ledger_accounts (id) ON DELETE CASCADE,
    CHECK (spent >= 0 AND held >= 0 AND leased >= 0 AND spent + held + leased <= cap)
);

-- A block a node may spend. `amount` is what of it is still leased, `charged` what of it has become spent; `unproven`
-- was charged in full after the node went silent, until its journal says what it was.
CREATE TABLE ledger_leases (
    id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant   TEXT COLLATE "C" NOT NULL,
    account  BIGINT NOT NULL,
    period   BIGINT NOT NULL,
    node     TEXT COLLATE "C" NOT NULL,
    epoch    BIGINT NOT NULL,
    amount   BIGINT NOT NULL CHECK (amount >= 0),
    charged  BIGINT NOT NULL CHECK (charged >= 0),
    unproven BIGINT NOT NULL CHECK (unproven >= 0),
    state    TEXT COLLATE "C" NOT NULL CHECK (state IN ('open', 'charged', 'closed')),
    taken_at BIGINT NOT NULL,
    FOREIGN KEY (account) REFERENCES ledger_accounts (id) ON DELETE CASCADE
);
CREATE INDEX ledger_leases_node ON ledger_leases (tenant, node, state);
CREATE INDEX ledger_leases_period ON ledger_leases (tenant, account, period);

-- Appended to, never changed. The sums of an account's entries are its rows.
CREATE TABLE ledger_entries (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant  TEXT COLLATE "C" NOT NULL,
    account BIGINT NOT NULL,
    period  BIGINT NOT NULL,
    lease   BIGINT,
    kind    TEXT COLLATE "C" NOT NULL,
    spent   BIGINT NOT NULL,
    held    BIGINT NOT NULL,
    leased  BIGINT NOT NULL,
    request TEXT COLLATE "C",
    at      BIGINT NOT NULL,
    FOREIGN KEY (account) REFERENCES ledger_accounts (id) ON DELETE CASCADE
);
CREATE INDEX ledger_entries_period ON ledger_entries (tenant, account, period);

-- A request whose end nobody knows yet, or which was charged by estimate and corrected: `whole` is what it held, `prepaid`
-- what of that had become spent already, `amount` the rest.
CREATE TABLE ledger_unresolved (
    tenant  TEXT COLLATE "C" NOT NULL,
    request TEXT COLLATE "C" NOT NULL,
    lease   BIGINT NOT NULL,
    account BIGINT NOT NULL,
    period  BIGINT NOT NULL,
    amount  BIGINT NOT NULL CHECK (amount >= 0),
    prepaid BIGINT NOT NULL CHECK (prepaid >= 0),
    whole   BIGINT NOT NULL CHECK (whole >= 0),
    state   TEXT COLLATE "C" NOT NULL CHECK (state IN ('held', 'charged', 'released', 'settled')),
    at      BIGINT NOT NULL,
    PRIMARY KEY (tenant, request, lease),
    FOREIGN KEY (account) REFERENCES ledger_accounts (id) ON DELETE CASCADE
);
CREATE INDEX ledger_unresolved_held ON ledger_unresolved (tenant, state, at);
CREATE INDEX ledger_unresolved_account ON ledger_unresolved (account, period);

-- More for a budget until a moment. Without `whom`: for each of those it counts apart; without `span`: in each window.
CREATE TABLE ledger_raises (
    id        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant    TEXT COLLATE "C" NOT NULL,
    budget    TEXT COLLATE "C" NOT NULL,
    whom      TEXT COLLATE "C",
    unit      TEXT COLLATE "C" NOT NULL,
    span      TEXT COLLATE "C",
    amount    BIGINT NOT NULL CHECK (amount > 0),
    starts_at BIGINT NOT NULL,
    ends_at   BIGINT NOT NULL,
    made_by   TEXT COLLATE "C" NOT NULL,
    reason    TEXT COLLATE "C" NOT NULL
);
CREATE INDEX ledger_raises_budget ON ledger_raises (tenant, budget, unit);
