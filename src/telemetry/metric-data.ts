/**
 * Metrics in memory in the form that OpenTelemetry's exporters send.
 *
 * @module
 */
import { type HrTime, ValueType } from "@opentelemetry/api";
import type { Resource } from "@opentelemetry/resources";
import {
  AggregationTemporality,
  type CollectionResult,
  DataPointType,
  type MetricData,
  type MetricDescriptor,
  type MetricProducer,
} from "@opentelemetry/sdk-metrics";
import type { HistogramMetric, Instruments, NumberMetric } from "./instruments.ts";
import { SCOPE_NAME } from "./names.ts";

/** Lets a metric reader of the SDK collect the instruments. Sums are cumulative. */
export function instrumentsProducer(instruments: Instruments, resource: Resource, version: string): MetricProducer {
  const startTime = toHrTime(instruments.startedAtEpochMs);
  return {
    async collect(): Promise<CollectionResult> {
      const endTime = toHrTime(Date.now());
      const metrics: MetricData[] = [];
      for (const metric of instruments.all) {
        if (metric.size > 0) metrics.push(metricData(metric, startTime, endTime));
      }
      return {
        resourceMetrics: { resource, scopeMetrics: [{ scope: { name: SCOPE_NAME, version }, metrics }] },
        errors: [],
      };
    },
  };
}

function metricData(metric: NumberMetric | HistogramMetric, startTime: HrTime, endTime: HrTime): MetricData {
  const { name, help, unit } = metric.description;
  const descriptor: MetricDescriptor = { name, description: help, unit, valueType: ValueType.DOUBLE };
  const common = { descriptor, aggregationTemporality: AggregationTemporality.CUMULATIVE };
  const times = { startTime, endTime };
  switch (metric.kind) {
    case "counter":
    case "sum":
      return {
        ...common,
        dataPointType: DataPointType.SUM,
        isMonotonic: metric.kind === "counter",
        dataPoints: Array.from(metric.series, ({ attributes, value }) => ({ ...times, attributes, value })),
      };
    case "gauge":
      return {
        ...common,
        dataPointType: DataPointType.GAUGE,
        dataPoints: Array.from(metric.series, ({ attributes, value }) => ({ ...times, attributes, value })),
      };
    case "histogram":
      return {
        ...common,
        dataPointType: DataPointType.HISTOGRAM,
        dataPoints: Array.from(metric.series, (series) => ({
          ...times,
          attributes: series.attributes,
          value: {
            // Copies: what is being sent must not change under the exporter.
            buckets: { boundaries: [...series.boundaries], counts: [...series.counts] },
            count: series.count,
            sum: series.sum,
            min: series.min,
            max: series.max,
          },
        })),
      };
  }
}

function toHrTime(epochMs: number): HrTime {
  const seconds = Math.floor(epochMs / 1000);
  return [seconds, Math.round((epochMs - seconds * 1000) * 1e6)];
}
