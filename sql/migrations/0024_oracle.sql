-- What the oracle learns from, and what it has learned: docs/oracle.md.

-- Who was charged, so that a customer's charges can be followed.
ALTER TABLE audit_charges
    ADD COLUMN customer text COLLATE "C",
    ADD COLUMN amount bigint,
    ADD COLUMN currency text,
    ADD COLUMN funding text;

-- A merchant's charges after a failure, by what the model looks at (cell) and month. Theirs alone,
-- until six merchants say something together. No id of a customer, no amount, no date.
CREATE TABLE oracle_cells (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    livemode boolean NOT NULL,
    month date NOT NULL, -- its first day
    ours boolean NOT NULL, -- the moments were the oracle's
    cell text COLLATE "C" NOT NULL,
    attempts integer NOT NULL,
    successes integer NOT NULL,
    PRIMARY KEY (merchant_id, livemode, month, ours, cell),
    CONSTRAINT oracle_cells_month_is_one CHECK (extract(day FROM month) = 1),
    CONSTRAINT oracle_cells_successes_within_attempts CHECK (attempts > 0 AND successes BETWEEN 0 AND attempts)
);

-- What a merchant's customers in a country tell about when money comes in: sums over all of them.
CREATE TABLE oracle_paydays (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    livemode boolean NOT NULL,
    country text NOT NULL, -- '' where it is not known
    customers integer NOT NULL,
    habits double precision[] NOT NULL,
    PRIMARY KEY (merchant_id, livemode, country)
);

-- A night's model. It names no merchant but in what is their own, and goes with them.
CREATE TABLE oracle_model (
    livemode boolean NOT NULL,
    version bigint GENERATED ALWAYS AS IDENTITY,
    built_at timestamptz NOT NULL DEFAULT phantom_now(),
    merchants integer NOT NULL,
    attempts bigint NOT NULL,
    coefficients bytea NOT NULL,
    PRIMARY KEY (livemode, version)
);
