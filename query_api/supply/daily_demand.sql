-- daily_demand: what was ordered each day in each currency, over all sites or at one.
--
--   :tenant, :item_id   whose, and of which item; null: of all
--   {filters}           the range of days, the site
--
-- Returns  one row for each day and currency
-- Caller   query_api/supply/dashboards.py, DailyDemandList
--
-- An order has one site, so the sites' numbers of orders add up; rows of all items have an empty item.

SELECT sums.day, sums.currency, json_build_object(
           'day', sums.day, 'currency', sums.currency, 'orders', sums.orders, 'units', sums.units,
           'placed', sums.placed, 'net', sums.net
       )::text AS doc
  FROM (
        SELECT day, currency, sum(orders) AS orders, sum(units) AS units, sum(placed) AS placed, sum(net) AS net
          FROM {daily_demand}.rows
         WHERE tenant = :tenant AND item_id = coalesce(:item_id::text, '') AND {filters}
         GROUP BY day, currency
       ) AS sums
