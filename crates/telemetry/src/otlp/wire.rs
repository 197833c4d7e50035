// SPDX-License-Identifier: Apache-2.0
//! The messages of OTLP that are sent, with the numbers of opentelemetry-proto 1.x, and of their fields
//! those that are used.

/// Declares messages, so that there is one line a field.
macro_rules! messages {
    ($($name:ident { $($(#[$kind:meta])* $field:ident : $type:ty),* $(,)? })*) => {$(
        #[derive(Clone, PartialEq, prost::Message)]
        pub(crate) struct $name {
            $($(#[$kind])* pub(crate) $field: $type,)*
        }
    )*};
}

messages! {
    AnyValue {
        #[prost(string, tag = "1")] string_value: String,
    }
    KeyValue {
        #[prost(string, tag = "1")] key: String,
        #[prost(message, optional, tag = "2")] value: Option<AnyValue>,
    }
    Scope {
        #[prost(string, tag = "1")] name: String,
        #[prost(string, tag = "2")] version: String,
    }
    Resource {
        #[prost(message, repeated, tag = "1")] attributes: Vec<KeyValue>,
    }

    LogsRequest {
        #[prost(message, repeated, tag = "1")] resource_logs: Vec<ResourceLogs>,
    }
    ResourceLogs {
        #[prost(message, optional, tag = "1")] resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")] scope_logs: Vec<ScopeLogs>,
    }
    ScopeLogs {
        #[prost(message, optional, tag = "1")] scope: Option<Scope>,
        #[prost(message, repeated, tag = "2")] log_records: Vec<LogRecord>,
    }
    LogRecord {
        #[prost(fixed64, tag = "1")] time_unix_nano: u64,
        #[prost(int32, tag = "2")] severity_number: i32,
        #[prost(string, tag = "3")] severity_text: String,
        #[prost(message, optional, tag = "5")] body: Option<AnyValue>,
        #[prost(message, repeated, tag = "6")] attributes: Vec<KeyValue>,
        #[prost(fixed64, tag = "11")] observed_time_unix_nano: u64,
        #[prost(string, tag = "12")] event_name: String,
    }

    MetricsRequest {
        #[prost(message, repeated, tag = "1")] resource_metrics: Vec<ResourceMetrics>,
    }
    ResourceMetrics {
        #[prost(message, optional, tag = "1")] resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")] scope_metrics: Vec<ScopeMetrics>,
    }
    ScopeMetrics {
        #[prost(message, optional, tag = "1")] scope: Option<Scope>,
        #[prost(message, repeated, tag = "2")] metrics: Vec<Metric>,
    }
    // One of the three is there.
    Metric {
        #[prost(string, tag = "1")] name: String,
        #[prost(string, tag = "2")] description: String,
        #[prost(string, tag = "3")] unit: String,
        #[prost(message, optional, tag = "5")] gauge: Option<Gauge>,
        #[prost(message, optional, tag = "7")] sum: Option<Sum>,
        #[prost(message, optional, tag = "9")] histogram: Option<Histogram>,
    }
    Gauge {
        #[prost(message, repeated, tag = "1")] data_points: Vec<Number>,
    }
    Sum {
        #[prost(message, repeated, tag = "1")] data_points: Vec<Number>,
        #[prost(int32, tag = "2")] aggregation_temporality: i32,
        #[prost(bool, tag = "3")] is_monotonic: bool,
    }
    Number {
        #[prost(fixed64, tag = "2")] start_time_unix_nano: u64,
        #[prost(fixed64, tag = "3")] time_unix_nano: u64,
        // Of a choice: one of them is sent, when it is 0, too.
        #[prost(double, optional, tag = "4")] as_double: Option<f64>,
        #[prost(sfixed64, optional, tag = "6")] as_int: Option<i64>,
        #[prost(message, repeated, tag = "7")] attributes: Vec<KeyValue>,
    }
    Histogram {
        #[prost(message, repeated, tag = "1")] data_points: Vec<Buckets>,
        #[prost(int32, tag = "2")] aggregation_temporality: i32,
    }
    Buckets {
        #[prost(fixed64, tag = "2")] start_time_unix_nano: u64,
        #[prost(fixed64, tag = "3")] time_unix_nano: u64,
        #[prost(fixed64, tag = "4")] count: u64,
        #[prost(double, optional, tag = "5")] sum: Option<f64>,
        #[prost(fixed64, repeated, tag = "6")] bucket_counts: Vec<u64>,
        #[prost(double, repeated, tag = "7")] explicit_bounds: Vec<f64>,
    }

    // The same for logs and metrics.
    Reply {
        #[prost(message, optional, tag = "1")] partial_success: Option<PartialSuccess>,
    }
    PartialSuccess {
        #[prost(int64, tag = "1")] rejected: i64,
        #[prost(string, tag = "2")] error_message: String,
    }
}
