-- Sessions: by which the storefront knows a browser that showed a token (auth.mode = "token").

create table shop.session (
    -- SHA-256 of the cookie's text. The text itself is kept nowhere.
    digest     bytea       primary key constraint session_digest_length check (octet_length(digest) = 32),
    -- It speaks for this token's user, and ends with the token.
    token_id   bigint      not null references shop.token,
    begun_at   timestamptz not null default clock_timestamp(),
    -- It is worth nothing from then on, by the database's clock.
    expires_at timestamptz not null
);
create index session_by_token on shop.session (token_id, begun_at);
create index session_by_expiry on shop.session (expires_at);
