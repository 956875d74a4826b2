//! `OpenTelemetry` `GenAI` spans over OTLP (feature `otel`), to the collector that `OTEL_EXPORTER_OTLP_ENDPOINT` names.
//!
//! The data plane says of each finished request what a span says, as one event. Here it becomes the span, with the
//! caller's trace as its parent; the collector is reached like everything else, through the egress client.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use net::{Deadlines, Egress, EgressConfig, OutBody, Reach, Target};
use opentelemetry::trace::{
    Span, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
    TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context as LayerContext;

use crate::log::Spans;
use crate::spans::ENDPOINT;

/// What a collector may answer, bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Why spans cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum OtelError {
    /// The endpoint is not a URL.
    #[error("{ENDPOINT} is not a URL: {0}")]
    Url(#[from] url::ParseError),
    /// The endpoint cannot be called.
    #[error("{ENDPOINT} cannot be called: {0}")]
    Target(#[from] net::TargetError),
    /// No outgoing client.
    #[error(transparent)]
    Egress(#[from] net::EgressError),
    /// The exporter refuses its settings.
    #[error("spans cannot be exported: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Exports spans until it is shut down.
#[derive(Debug, Clone)]
pub struct Exporter(SdkTracerProvider);

impl Exporter {
    /// An exporter to the collector at `endpoint` (its base URL), and the layer that feeds it. Must be called within a
    /// Tokio runtime, on which the exporter sends.
    pub fn start(endpoint: &str) -> Result<(Self, Spans), OtelError> {
        let url = url::Url::parse(endpoint)?;
        let client = Client {
            egress: Egress::new(EgressConfig::default())?,
            // The operator names the collector; it usually lies on a private network.
            target: Target::new(&url, Reach::Private)?,
            runtime: Handle::current(),
        };
        let traces = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(traces)
            .build()?;
        let resource = Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", "vouchgate"),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            ])
            .build();
        let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
        let spans = Requests(provider.tracer("vouchgate"));
        let only = Targets::new().with_target(gateway::SPAN_TARGET, LevelFilter::DEBUG);
        Ok((Self(provider), Box::new(spans.with_filter(only))))
    }

    /// Send what is waiting, then stop.
    pub async fn shut_down(self) {
        let stopped = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(Duration::from_secs(5))).await;
        if !matches!(stopped, Ok(Ok(()))) {
            tracing::warn!("the last spans were not exported");
        }
    }
}

/// Makes a span of each finished request.
#[derive(Debug)]
struct Requests(SdkTracer);

impl<S: Subscriber> Layer<S> for Requests {
    fn on_event(&self, event: &tracing::Event<'_>, _: LayerContext<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        fields.export(&self.0);
    }
}

/// What the event says.
#[derive(Debug, Default)]
struct Fields {
    attributes: Vec<KeyValue>,
    operation: String,
    model: String,
    error: Option<String>,
    trace: Option<TraceId>,
    parent: Option<SpanId>,
    start_ms: i64,
    duration_ms: u64,
}

impl Fields {
    fn export(self, tracer: &SdkTracer) {
        let start = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(self.start_ms).unwrap_or(0));
        let parent = match (self.trace, self.parent) {
            (Some(trace), Some(span)) => {
                let remote = SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::default());
                Context::new().with_remote_span_context(remote)
            }
            _ => Context::new(),
        };
        let name = format!("{} {}", self.operation, self.model).trim().to_owned();
        let builder = SpanBuilder::from_name(name)
            .with_kind(SpanKind::Client)
            .with_start_time(start)
            .with_attributes(self.attributes);
        let mut span = tracer.build_with_context(builder, &parent);
        if let Some(error) = self.error {
            span.set_status(Status::error(error));
        }
        span.end_with_timestamp(start + Duration::from_millis(self.duration_ms));
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => return,
            "trace_id" => return self.trace = TraceId::from_hex(value).ok(),
            "parent_span_id" => return self.parent = SpanId::from_hex(value).ok(),
            "gen_ai.operation.name" => value.clone_into(&mut self.operation),
            "gen_ai.request.model" => value.clone_into(&mut self.model),
            "error.type" => self.error = Some(value.to_owned()),
            _ => {}
        }
        self.attributes.push(KeyValue::new(field.name(), value.to_owned()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        match field.name() {
            "start_ms" => self.start_ms = value,
            name => self.attributes.push(KeyValue::new(name, value)),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "duration_ms" => self.duration_ms = value,
            name => self.attributes.push(KeyValue::new(name, i64::try_from(value).unwrap_or(i64::MAX))),
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.attributes.push(KeyValue::new(field.name(), value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.attributes.push(KeyValue::new(field.name(), value));
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {
        // Only the event's own message comes this way.
    }
}

/// Sends the exporter's requests. The exporter runs on a thread of its own, so the work is handed to our runtime.
#[derive(Debug)]
struct Client {
    egress: Egress,
    target: Target,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (egress, target) = (self.egress.clone(), self.target.clone());
        let sending = async move {
            let response = egress.send(&target, request.map(OutBody::from), &Deadlines::default()).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
            Ok::<_, HttpError>(Response::from_parts(head, body))
        };
        self.runtime.spawn(sending).await?
    }
}

/// The exporter of this process, if one is asked for.
pub fn start() -> Result<Option<(Exporter, Spans)>, OtelError> {
    let endpoint = crate::references::variable(ENDPOINT);
    endpoint.map(|endpoint| Exporter::start(endpoint.expose())).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::mock::{Answer, Mock};
    use tracing_subscriber::layer::SubscriberExt;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_finished_request_becomes_a_span_in_its_callers_trace() {
        let collector = Mock::start_with(|_| Answer::bytes(200, "application/x-protobuf", "")).await;
        let (exporter, spans) = Exporter::start(&collector.url()).unwrap();
        let subscriber = std::sync::Arc::new(tracing_subscriber::registry().with(spans));
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!(
                target: gateway::SPAN_TARGET,
                trace_id = "0af7651916cd43dd8448eb211c80319c",
                parent_span_id = "b7ad6b7169203331",
                start_ms = 1_795_230_855_926_i64,
                duration_ms = 12_u64,
                gen_ai.operation.name = "chat",
                gen_ai.request.model = "fast",
                gen_ai.usage.input_tokens = 7_u64,
                "span"
            );
        });
        exporter.shut_down().await;
        let sent = collector.request(0).await;
        assert_eq!(sent.path(), "/v1/traces");
        let holds = |what: &[u8]| sent.body.windows(what.len()).any(|window| window == what);
        assert!(holds(b"chat fast") && holds(b"gen_ai.usage.input_tokens") && holds(b"vouchgate"));
        assert!(holds(&0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes()));
        assert!(holds(&0xb7ad_6b71_6920_3331_u64.to_be_bytes()));
    }
}
