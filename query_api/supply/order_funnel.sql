-- order_funnel: how many of a tenant's orders ever reached each stage.
--
--   :tenant   whose
--
-- Returns  one row; zeros where there are no orders yet
-- Caller   query_api/supply/dashboards.py, OrderFunnelQuery

SELECT coalesce(
           (SELECT convert_from(doc, 'UTF8') FROM {order_funnel}.rows WHERE tenant = :tenant),
           '{"placed":0,"confirmed":0,"shipped":0,"delivered":0,"rejected":0,"cancelled":0,"returned":0}'
       ) AS doc
