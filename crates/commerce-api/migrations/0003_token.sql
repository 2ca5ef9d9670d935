-- Tokens: by which callers are known where no gateway says who calls (auth.mode = "token").

create table shop.token (
    -- What operators call it; no secret.
    id         bigint      generated always as identity primary key,
    -- SHA-256 of the token's text. The text itself is kept nowhere.
    digest     bytea       not null constraint token_digest unique
                           constraint token_digest_length check (octet_length(digest) = 32),
    -- As whom it calls.
    user_id    bigint      not null constraint token_user_id_positive check (user_id > 0),
    -- What it may be used for.
    scopes     text[]      not null constraint token_scopes
                           check (cardinality(scopes) > 0 and scopes <@ array['buyer', 'admin']),
    -- What it is for, in words, for operators.
    label      text        constraint token_label_length check (octet_length(label) <= 200),
    issued_at  timestamptz not null default clock_timestamp(),
    -- It is worth nothing from then on, by the database's clock.
    expires_at timestamptz not null,
    -- Null: not revoked. Never taken back.
    revoked_at timestamptz
);
create index token_by_user on shop.token (user_id);
