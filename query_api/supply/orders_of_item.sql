-- orders_of_item: the orders that have an item, along the item's own index in the order of the list.
--
--   :tenant, :item_id   whose, and of which item
--
-- Returns  one row for each such order: its document, and what the list sorts by
-- Caller   query_api/supply/orders.py
--
-- Both tables have the time, and it is the same. Saying so would have PostgreSQL take the join for a far smaller one
-- than it is, and sort what it could walk.

SELECT ordered.ordered_at, ordered.order_id, placed.doc
FROM {orders}.items AS ordered
JOIN {orders}.rows AS placed ON placed.tenant = ordered.tenant AND placed.order_id = ordered.order_id
WHERE ordered.tenant = :tenant AND ordered.item_id = :item_id::text
