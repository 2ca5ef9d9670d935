-- The shop: products, their stock, likes and orders. Every change is written with its event (schema outbox).

create table shop.product (
    id         bigint      generated always as identity primary key,
    -- The merchant's code, distinct by exact bytes.
    code       text        collate "C" not null constraint product_code unique,
    name       text        not null,
    -- Minor units of the currency.
    price      bigint      not null constraint product_price_not_negative check (price >= 0),
    created_at timestamptz not null default clock_timestamp()
);

-- The list by price.
create index product_by_price on shop.product (price, id);

create table shop.stock (
    product_id bigint      primary key references shop.product,
    quantity   bigint      not null constraint stock_quantity_not_negative check (quantity >= 0),
    -- Rises by one with every change; a projection keeps the state with the highest.
    version    bigint      not null default 1,
    updated_at timestamptz not null default clock_timestamp()
) with (fillfactor = 80);

create table shop.product_like (
    user_id    bigint      not null,
    product_id bigint      not null constraint product_like_product references shop.product,
    created_at timestamptz not null default clock_timestamp(),
    primary key (user_id, product_id)
);
create index product_like_by_product on shop.product_like (product_id);

create table shop.orders (
    id           bigint      generated always as identity primary key,
    -- Null for an order taken over from recorded history without a customer.
    user_id      bigint,
    -- sale: bought here; refund: a recorded cancellation whose sale is not named, its lines are taken back.
    kind         text        not null default 'sale' constraint orders_kind check (kind in ('sale', 'refund')),
    status       text        not null default 'completed' constraint orders_status check (status in ('completed', 'cancelled')),
    total_amount bigint      not null,
    -- The invoice number of recorded history.
    external_id  text        collate "C" constraint orders_external_id unique,
    version      bigint      not null default 1,
    ordered_at   timestamptz not null default clock_timestamp(),
    cancelled_at timestamptz
);
create index orders_by_user on shop.orders (user_id, id desc);

create table shop.order_line (
    order_id   bigint  not null references shop.orders,
    line       integer not null,
    product_id bigint  not null constraint order_line_product references shop.product,
    quantity   bigint  not null constraint order_line_quantity_positive check (quantity > 0),
    unit_price bigint  not null constraint order_line_unit_price_not_negative check (unit_price >= 0),
    primary key (order_id, line)
);

-- The answer that a request with an Idempotency-Key got, written in the transaction of its effect.
create table shop.idempotent_response (
    user_id         bigint      not null,
    idempotency_key text        not null,
    -- Digest of the request: the same key with another body is refused.
    request_digest  bytea       not null,
    order_id        bigint      not null,
    created_at      timestamptz not null default clock_timestamp(),
    primary key (user_id, idempotency_key)
);

-- How far each recorded file (by its digest) has been replayed; advances with the events it appended.
create table shop.replay_progress (
    file_digest text        primary key,
    format      text        not null,
    -- Lines of the file consumed, the header line included.
    lines_done  bigint      not null default 0,
    report      jsonb       not null default '{}',
    finished    boolean     not null default false,
    updated_at  timestamptz not null default clock_timestamp()
);
