-- top_items: what was ordered of each item in each currency.
--
--   :tenant     whose
--   {filters}   the range of days
--
-- Returns  one row for each item and currency
-- Caller   query_api/supply/dashboards.py, TopItemList
--
-- An item's name is looked up when all is added up; one that is not known yet has its id for a name.

SELECT sums.item_id, sums.currency, sums.net, json_build_object(
           'item_id', sums.item_id, 'name', coalesce(item.name, sums.item_id), 'currency', sums.currency,
           'orders', sums.orders, 'units', sums.units, 'placed', sums.placed, 'net', sums.net
       )::text AS doc
  FROM (
        SELECT item_id, currency, sum(orders) AS orders, sum(units) AS units, sum(placed) AS placed, sum(net) AS net
          FROM {daily_demand}.rows
         WHERE tenant = :tenant AND item_id <> '' AND {filters}
         GROUP BY item_id, currency
       ) AS sums
  LEFT JOIN {items}.rows AS item ON item.tenant = :tenant AND item.item_id = sums.item_id
