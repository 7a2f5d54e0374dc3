-- fill: read tables of one large tenant and a neighbour, with rows as real ones are distributed.
--
--   {orders} …   the schemas of the projections' tables; each statement fills one table
--
-- Caller   tests/plans/supply/test_plans.py

INSERT INTO {orders}.rows (tenant, order_id, status, customer_id, site_id, ordered_at, doc, position, commit_hash)
SELECT CASE WHEN n % 10 = 0 THEN 'neighbour' ELSE 'demo' END,
       'O' || lpad(n::text, 8, '0'),
       CASE WHEN n > 999900 THEN 'placed' WHEN n > 998000 THEN 'confirmed' WHEN n % 50 = 7 THEN 'rejected' ELSE 'delivered' END,
       'C' || n % 997,
       'S' || n % 11,
       timestamptz '2026-01-01T00:00Z' + n / 3 * interval '1 minute',
       convert_to(repeat('x', 120), 'UTF8'), n, '\x00'
  FROM generate_series(1, 1000000) AS n;

INSERT INTO {orders}.items (tenant, item_id, order_id, ordered_at, doc, position, commit_hash)
SELECT CASE WHEN n % 10 = 0 THEN 'neighbour' ELSE 'demo' END, item, 'O' || lpad(n::text, 8, '0'),
       timestamptz '2026-01-01T00:00Z' + n / 3 * interval '1 minute', '{}'::bytea, n, '\x00'
  FROM (SELECT n, 'I' || n % 2003 AS item FROM generate_series(1, 1000000) AS n UNION ALL
        SELECT n, 'I5001' FROM generate_series(1, 1000000, 4) AS n UNION ALL
        SELECT n, 'I6001' FROM generate_series(33, 1000000, 100) AS n UNION ALL
        SELECT n, 'I7001' FROM generate_series(777, 1000000, 200000) AS n) AS lines;

INSERT INTO {stock_levels}.rows (tenant, site_id, item_id, available, doc, position, commit_hash)
SELECT CASE WHEN n % 10 = 0 THEN 'neighbour' ELSE 'demo' END,
       'S' || n % 53, 'I' || lpad((n / 53)::text, 5, '0'), n::bigint * 7919 % 100000, convert_to(repeat('x', 120), 'UTF8'), n, '\x00'
  FROM generate_series(1, 1000000) AS n;

INSERT INTO {stock_levels}.lots (tenant, site_id, item_id, lot, expires_on, on_hand, doc, position, commit_hash)
SELECT CASE WHEN n % 10 = 0 THEN 'neighbour' ELSE 'demo' END,
       'S' || n % 53, 'I' || lpad((n / 53 % 997)::text, 5, '0'), 'L' || n,
       CASE WHEN n % 20 > 0 THEN date '2026-01-01' + (n::bigint * 7919 % 1500)::integer END, n % 4, convert_to(repeat('x', 120), 'UTF8'), n, '\x00'
  FROM generate_series(1, 1000000) AS n;

INSERT INTO {lot_traces}.rows (tenant, item_id, lot, doc, position, commit_hash)
SELECT 'demo', 'I' || n % 997, 'L' || n,
       '{"item_id":"I","lot":"L","expires_on":null,"totals":{},"stock":[{"site_id":"S1"}],"released":{}}', n, '\x00'
  FROM generate_series(1, 10000) AS n;

INSERT INTO {lot_traces}.rows (tenant, item_id, lot, doc, position, commit_hash)
SELECT 'demo', 'HOT', 'LOT',
       '{"item_id":"HOT","lot":"LOT","expires_on":null,"totals":{},"stock":[{"site_id":"S1"}],"released":{}}', 1, '\x00';

INSERT INTO {lot_traces}.movements (tenant, item_id, lot, at, doc, position, commit_hash)
SELECT 'demo', CASE WHEN n % 2 = 0 THEN 'HOT' ELSE 'I' || n % 997 END, CASE WHEN n % 2 = 0 THEN 'LOT' ELSE 'L' || n END,
       lpad(to_hex(n), 16, '0'), convert_to(repeat('x', 120), 'UTF8'), n, '\x00'
  FROM generate_series(1, 1000000) AS n;

INSERT INTO {lot_traces}.holds (tenant, item_id, recall_id, doc, position, commit_hash)
SELECT 'demo', 'I' || n % 997, 'R' || n, '{"lots":null,"is_open":false}', n, '\x00'
  FROM generate_series(1, 2000) AS n;

INSERT INTO {items}.rows (tenant, item_id, name, doc, position, commit_hash)
SELECT 'demo', 'I' || lpad(n::text, 5, '0'), 'Item ' || n, convert_to(repeat('x', 120), 'UTF8'), n, '\x00'
  FROM generate_series(1, 10000) AS n;

INSERT INTO {sites}.rows (tenant, site_id, doc, position, commit_hash)
SELECT 'demo', 'S' || lpad(n::text, 5, '0'), convert_to(repeat('x', 100), 'UTF8'), n, '\x00'
  FROM generate_series(1, 10000) AS n;

INSERT INTO {recalls}.rows (tenant, recall_id, doc, position, commit_hash)
SELECT 'demo', 'R' || lpad(n::text, 5, '0'), convert_to(repeat('x', 120), 'UTF8'), n, '\x00'
  FROM generate_series(1, 10000) AS n;

INSERT INTO {daily_demand}.rows (tenant, day, currency, site_id, item_id, orders, units, placed, net, doc, position, commit_hash)
SELECT CASE WHEN n % 10 = 0 THEN 'neighbour' ELSE 'demo' END,
       to_char(date '2025-01-01' + n / 2100, 'YYYY-MM-DD'), 'EUR', 'S' || n / 300 % 7,
       CASE WHEN n % 300 = 1 THEN '' ELSE 'I' || lpad((n % 300)::text, 5, '0') END, 3, 10, 1000, 900,
       convert_to(repeat('x', 60), 'UTF8'), n, '\x00'
  FROM generate_series(0, 1049999) AS n;

INSERT INTO {daily_demand}.quarters (tenant, quarter, currency, site_id, orders, units, placed, net, doc, position, commit_hash)
SELECT CASE WHEN n % 10 = 0 THEN 'neighbour' ELSE 'demo' END,
       to_char(timestamp '2025-01-01' + n / 7 * interval '15 minutes', 'YYYY-MM-DD"T"HH24:MI"Z"'), 'EUR', 'S' || n % 7,
       3, 10, 1000, 900, convert_to(repeat('x', 60), 'UTF8'), n, '\x00'
  FROM generate_series(0, 299999) AS n;

INSERT INTO {order_funnel}.rows (tenant, doc, position, commit_hash)
SELECT 'tenant-' || n, '{}', n, '\x00' FROM generate_series(1, 10000) AS n;

INSERT INTO {order_funnel}.statuses (tenant, status, doc, position, commit_hash)
SELECT 'tenant-' || n, 'placed', '{}', n, '\x00' FROM generate_series(1, 10000) AS n;
