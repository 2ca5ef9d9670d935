-- Brands, and the lists by brand.

-- Null: none is named. Distinct by exact bytes.
alter table shop.product add column brand text collate "C";

-- A brand's list, the newest first, and by price in both directions.
create index product_by_brand on shop.product (brand, id) where brand is not null;
create index product_by_brand_and_price on shop.product (brand, price, id) where brand is not null;

-- One version tells which of two cards of a product is the newer one, whatever changed.
comment on column shop.stock.version is
    'Rises by one with every change of the stock, and of the product''s name, brand or price.';
