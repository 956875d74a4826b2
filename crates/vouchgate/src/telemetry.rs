//! Metrics for an `OpenTelemetry` collector: OTLP over HTTP in JSON (opentelemetry.io/docs/specs/otlp), sent by a task of its own
//! through the egress client. Counts are cumulative: a collector that was away misses points in time and no counts, and no
//! request ever waits for it.

use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Secret, Timestamp};
use bytes::Bytes;
use config::{Config, FieldValue, OtlpExport};
use gateway::Metrics;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use net::{Deadlines, Egress, OutBody, Reach, Target};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use crate::references::{self, ReferenceError};
use crate::tasks::Tasks;

/// What a collector may answer, bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// How long one export may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why metrics cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The collector cannot be called.
    #[error("[telemetry] otlp.url: {0}")]
    Target(#[from] net::TargetError),
    /// Its URL is none.
    #[error("[telemetry] otlp.url: {0}")]
    Url(#[from] url::ParseError),
    /// A header field's value is not to be had.
    #[error("[telemetry] otlp.headers: {0}")]
    Header(#[from] ReferenceError),
    /// A header field cannot be sent.
    #[error("[telemetry] otlp.headers: {0} cannot be sent")]
    Field(String),
}

/// The data plane's metrics, registered; and sent, where the configuration says whereto.
pub(crate) fn metrics(
    registry: &mut Registry,
    config: &Config,
    (egress, clock): (&Egress, &Arc<dyn Clock>),
    (node, tasks): (&str, &Tasks),
) -> Result<Arc<Metrics>, TelemetryError> {
    let metrics = Metrics::register(registry);
    if let Some(to) = &config.telemetry.otlp {
        let counted = (Arc::clone(&metrics), Arc::clone(clock));
        Exporter::new(to, egress.clone(), counted, node)?.begin(tasks);
    }
    Ok(metrics)
}

/// Sends metrics.
struct Exporter {
    target: Target,
    path: String,
    fields: Vec<(HeaderName, HeaderValue)>,
    every: Duration,
    egress: Egress,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    start: Timestamp,
    node: String,
}

impl Exporter {
    /// To the collector of the configuration. From now on what it tells is counted.
    fn new(
        to: &OtlpExport,
        egress: Egress,
        (metrics, clock): (Arc<Metrics>, Arc<dyn Clock>),
        node: &str,
    ) -> Result<Self, TelemetryError> {
        let url = url::Url::parse(to.url.as_str())?;
        let target = Target::new(&url, if to.allow_private { Reach::Private } else { Reach::Public })?;
        let mut fields = Vec::new();
        for (name, value) in &to.headers {
            let value = match value {
                FieldValue::Text(text) => Secret::new(text.to_string()),
                FieldValue::Secret(reference) => references::read(reference)?,
            };
            let wrong = || TelemetryError::Field(name.clone());
            let name = HeaderName::try_from(name.as_str()).map_err(|_| wrong())?;
            let mut value = HeaderValue::try_from(value.expose().as_str()).map_err(|_| wrong())?;
            value.set_sensitive(true);
            fields.push((name, value));
        }
        metrics.genai().count();
        Ok(Self {
            target,
            path: format!("{}/v1/metrics", url.path().trim_end_matches('/')),
            fields,
            every: to.interval.duration(),
            egress,
            metrics,
            start: clock.now(),
            clock,
            node: node.to_owned(),
        })
    }

    /// Send again and again, until the server stops.
    fn begin(self, tasks: &Tasks) {
        tasks.spawn(async move {
            let mut failing = false;
            loop {
                tokio::time::sleep(self.every).await;
                match self.send().await {
                    Ok(()) => failing = false,
                    Err(error) if !failing => {
                        failing = true;
                        tracing::warn!(%error, "metrics do not reach their collector; they are sent again later");
                    }
                    Err(_) => {}
                }
            }
        });
    }

    /// Send all there is.
    async fn send(&self) -> Result<(), ExportError> {
        let body = self.body(self.clock.now()).to_string();
        let mut request = Request::builder().method(Method::POST).uri(&self.path);
        request = request.header(header::CONTENT_TYPE, "application/json");
        for (name, value) in &self.fields {
            request = request.header(name, value);
        }
        let request = request.body(OutBody::from(Bytes::from(body)))?;
        let sending = async {
            let response = self.egress.send(&self.target, request, &Deadlines::default()).await?;
            let status = response.status();
            // Read to its end, so that the connection can be used again.
            let _read = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            if status.is_success() { Ok(()) } else { Err(ExportError::Status(status)) }
        };
        tokio::time::timeout(PATIENCE, sending).await.map_err(|_| ExportError::Late)?
    }

    fn body(&self, now: Timestamp) -> Value {
        let text = |name: &str, value: &str| json!({ "key": name, "value": { "stringValue": value } });
        json!({ "resourceMetrics": [{
            "resource": { "attributes": [
                text("service.name", "vouchgate"),
                text("service.version", env!("CARGO_PKG_VERSION")),
                text("service.instance.id", &self.node),
            ] },
            "scopeMetrics": [{
                "scope": { "name": "vouchgate", "version": env!("CARGO_PKG_VERSION") },
                "metrics": self.metrics.genai().otlp(self.start, now),
            }],
        }] })
    }
}

/// Why metrics did not arrive.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("{0}")]
    Egress(#[from] net::EgressError),
    #[error("the request cannot be made: {0}")]
    Request(#[from] http::Error),
    #[error("the collector answers {0}")]
    Status(StatusCode),
    #[error("the collector takes too long")]
    Late,
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SystemClock;
    use net::EgressConfig;
    use testkit::mock::{Answer, Mock};

    fn exporter(collector: &Mock, more: &str) -> Exporter {
        let text =
            format!("[telemetry]\notlp = {{ url = \"{}/otel\", allow_private = true {more} }}\n", collector.url());
        let config = config::parse(&text).unwrap_or_else(|faults| panic!("{faults:?}"));
        let egress = Egress::new(EgressConfig::default()).unwrap();
        let metrics = Metrics::register(&mut Registry::default());
        let to = config.telemetry.otlp.unwrap();
        Exporter::new(&to, egress, (metrics, Arc::new(SystemClock)), "node-1").unwrap()
    }

    #[tokio::test]
    async fn metrics_are_sent_to_the_collector_with_its_header_fields() {
        let collector = Mock::start_with(|_| Answer::json(200, &json!({}))).await;
        let exporter = exporter(&collector, ", headers = { x-team = \"ai\" }");
        exporter.send().await.unwrap();
        let sent = collector.request(0).await;
        assert_eq!(
            (sent.path(), sent.header("x-team"), sent.header("content-type")),
            ("/otel/v1/metrics", Some("ai"), Some("application/json"))
        );
        let resource = &sent.json()["resourceMetrics"][0];
        assert_eq!(resource["resource"]["attributes"][2]["value"]["stringValue"], "node-1");
        assert_eq!(resource["scopeMetrics"][0]["metrics"], json!([]));
    }

    #[tokio::test]
    async fn a_collector_that_refuses_is_told_and_asked_again() {
        let collector = Mock::start_with(|_| Answer::json(503, &json!({}))).await;
        let exporter = exporter(&collector, "");
        for _ in 0..2 {
            assert!(matches!(exporter.send().await, Err(ExportError::Status(status)) if status == 503));
        }
    }

    #[test]
    fn a_collector_on_a_private_network_is_meant_or_refused() {
        let said = |url: &str| config::parse(&format!("[telemetry]\notlp = {{ url = \"{url}\" }}\n")).is_ok();
        assert!(said("https://otel.example.com"));
        assert!(!said("http://otel.example.com") && !said("http://127.0.0.1:4318"));
        for more in
            ["interval = \"1ms\"", "headers = { authorization = { secret = \"x\" } }", "headers = { host = \"x\" }"]
        {
            let text = format!("[telemetry]\notlp = {{ url = \"https://otel.example.com\", {more} }}\n");
            assert!(config::parse(&text).is_err(), "{more}");
        }
    }
}
