-- demand_series: what was ordered in each day, week or month of a time zone, in each currency.
--
--   :tenant, :site_id   whose, and at which site; null: at all
--   :from_, :to         the first day, and the day after the last, in the zone
--   :bucket             day | week | month
--   :time_zone          the zone's name
--   :compare            none | previous: each bucket beside that of the period before
--
-- Returns  one row
-- Caller   query_api/supply/dashboards.py, DemandSeriesQuery
--
-- The bounds are sub-selects, because PostgreSQL takes a range of values that it cannot know yet to be a short one.
-- A row of the period before is counted in the bucket that it would be in if it had happened a period later.

WITH asked AS (
    SELECT :from_::date AS first, :to::date AS ends, :time_zone::text AS zone, :bucket::text AS bucket,
           :compare::text = 'previous' AS compares,
           CASE WHEN :bucket::text = 'month' AND extract(day FROM :from_::date) = 1 AND extract(day FROM :to::date) = 1
                THEN make_interval(months => (extract(year FROM age(:to::date, :from_::date)) * 12
                                              + extract(month FROM age(:to::date, :from_::date)))::integer)
                ELSE make_interval(days => :to::date - :from_::date)
           END AS span
),
period AS (
    SELECT asked.*, CASE WHEN compares THEN (first - span)::date ELSE first END AS begins FROM asked
),
bounds AS (
    SELECT to_char(begins::timestamp AT TIME ZONE zone AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"') AS from_quarter,
           to_char(ends::timestamp AT TIME ZONE zone AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"') AS to_quarter
      FROM period
),
found AS (
    SELECT q.currency, q.orders, q.units, q.placed, q.net, p.bucket, p.span, p.first,
           (q.quarter::timestamptz AT TIME ZONE p.zone)::date AS day
      FROM period AS p
     CROSS JOIN {daily_demand}.quarters AS q
     WHERE q.tenant = :tenant
       AND q.quarter >= (SELECT from_quarter FROM bounds) AND q.quarter < (SELECT to_quarter FROM bounds)
       AND (:site_id::text IS NULL OR q.site_id = :site_id::text)
),
sums AS (
    SELECT currency, day < first AS is_previous,
           date_trunc(bucket, CASE WHEN day < first THEN day + span ELSE day END::timestamp)::date AS start,
           sum(orders) AS orders, sum(units) AS units, sum(placed) AS placed, sum(net) AS net
      FROM found
     GROUP BY 1, 2, 3
),
buckets AS (
    SELECT each.start::date AS start
      FROM asked
     CROSS JOIN generate_series(
           date_trunc(bucket, first::timestamp), ends::timestamp - interval '1 day', ('1 ' || bucket)::interval
           ) AS each (start)
),
points AS (
    SELECT c.currency,
           json_agg(
               json_build_object(
                   'start', b.start, 'orders', coalesce(s.orders, 0), 'units', coalesce(s.units, 0),
                   'placed', coalesce(s.placed, 0), 'net', coalesce(s.net, 0),
                   'previous', CASE WHEN asked.compares THEN json_build_object(
                       'orders', coalesce(p.orders, 0), 'units', coalesce(p.units, 0),
                       'placed', coalesce(p.placed, 0), 'net', coalesce(p.net, 0)
                   ) END
               )
               ORDER BY b.start
           ) AS points
      FROM asked
     CROSS JOIN (SELECT DISTINCT currency FROM sums) AS c
     CROSS JOIN buckets AS b
      LEFT JOIN sums AS s ON s.currency = c.currency AND s.start = b.start AND NOT s.is_previous
      LEFT JOIN sums AS p ON p.currency = c.currency AND p.start = b.start AND p.is_previous
     GROUP BY c.currency
)
SELECT json_build_object(
           'bucket', asked.bucket, 'time_zone', asked.zone, 'from', asked.first, 'to', asked.ends,
           'previous_from', CASE WHEN asked.compares THEN (asked.first - asked.span)::date END,
           'series', coalesce(
               (SELECT json_agg(json_build_object('currency', currency, 'points', points) ORDER BY currency) FROM points), '[]'
           )
       )::text AS doc
  FROM asked
