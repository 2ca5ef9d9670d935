-- Rankings read the hours of a window. Updates of counts stay heap-only: they never change the hour.
create index product_metrics_hourly_by_hour on metrics.product_metrics_hourly (hour);
