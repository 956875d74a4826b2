//! Asking a provider whether it accepts a key, before the key is used: by a call that costs nothing.

use std::time::Duration;

use base::{Clock, Secret};
use bytes::Bytes;
use config::{FieldValue, Provider, ProviderDialect, ProviderKind};
use http::header::{self, HeaderMap, HeaderName};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method};
use http_body_util::BodyExt;
use net::{Deadlines, Egress, OutBody, Reach, Target};
use url::Url;

use super::{
    ANTHROPIC_VERSION, Grant, IDENTITY, JSON, Trial, Tried, Trouble, USER_AGENT, refused, request, try_credentials,
};

/// How long a provider has to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is read of an error.
const MOST: usize = 16 * 1024;

/// What a provider says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// It accepts it.
    Accepted,
    /// It knows it, and does not let it ask for what it was asked: with this status.
    Known(u16),
}

/// Ask `trial.provider` whether it accepts the key. Nothing but the key's own provider is called, at the address that is
/// configured for it.
pub async fn probe_key(trial: Trial<'_>, egress: &Egress, clock: &dyn Clock) -> Result<Probed, Trouble> {
    let provider = trial.provider;
    if Grant::of(provider).is_some() || provider.kind == ProviderKind::Bedrock {
        match try_credentials(trial, egress, clock).await {
            Some(Ok(Tried::Token(_) | Tried::Known)) => return Ok(Probed::Accepted),
            Some(Err(trouble)) => return Err(trouble),
            Some(Ok(Tried::Key)) | None => {}
        }
    }
    let wrong = || Trouble::new("it has no address that can be called", "give base_url");
    let key = trial.key.ok_or_else(|| Trouble::new("it has no key", "give api_key"))?;
    let base = provider.base().and_then(|base| Url::parse(&base).ok()).ok_or_else(wrong)?;
    let reach = if provider.may_be_private() { Reach::Private } else { Reach::Public };
    let target = Target::new(&base, reach).map_err(|error| Trouble::new(error.to_string(), wrong().todo))?;
    let (method, path) = question(provider, base.path().trim_end_matches('/'));
    let path = PathAndQuery::try_from(path).map_err(|_| wrong())?;
    let asks = method == Method::POST;
    let headers = headers(provider, (key, &path), asks)?;
    let body = if asks { Bytes::from_static(b"{}") } else { Bytes::new() };
    let request = request(method, &path, headers, body).map(OutBody::from);
    let deadlines = Deadlines { connect: PATIENCE, tls: PATIENCE, first_byte: PATIENCE, idle: PATIENCE };
    let unreachable = |why: String| Trouble::new(why, "check the network and base_url, or rotate without a probe");
    let asked = async {
        let response = egress.send(&target, request, &deadlines).await.map_err(|error| error.to_string())?;
        let (head, mut body) = response.into_parts();
        let mut text = Vec::new();
        while !head.status.is_success() && text.len() < MOST {
            let Some(frame) = body.frame().await else { break };
            let Ok(data) = frame.map_err(|error| error.to_string())?.into_data() else { continue };
            text.extend_from_slice(&data);
        }
        Ok::<_, String>((head, text))
    };
    let asked = tokio::time::timeout(PATIENCE, asked).await;
    let (head, text) = asked.map_err(|_| unreachable("it does not answer in time".to_owned()))?.map_err(unreachable)?;
    let status = head.status;
    if refused::by_head(status, &head.headers) || refused::by_body(status, &text) {
        let todo = "check that the key was copied whole, and is one for this provider";
        return Err(Trouble::new(format!("the provider refuses the key: {status}"), todo).refused());
    }
    match status.as_u16() {
        200..=299 => Ok(Probed::Accepted),
        // What was asked is empty: the provider got as far as to see that.
        400 | 422 if asks => Ok(Probed::Accepted),
        // An OpenAI key may be kept from listing models; a key without credit or quota is a key.
        402 | 403 | 429 => Ok(Probed::Known(status.as_u16())),
        500.. => Err(unreachable(format!("it answers {status}"))),
        _ => Err(Trouble::new(
            format!("it cannot be asked whether it accepts a key: {path} answers {status}"),
            "rotate without a probe",
        )),
    }
}

/// What is asked, where the provider's paths begin with `base`: for its models, as each documents it.
fn question(provider: &Provider, base: &str) -> (Method, String) {
    let get = |end: &str| (Method::GET, format!("{base}{end}"));
    let post = |end: &str| (Method::POST, format!("{base}{end}"));
    match provider.kind {
        ProviderKind::Azure => match &provider.api_version {
            Some(version) => get(&format!("/openai/models?api-version={version}")),
            None => get("/openai/v1/models"),
        },
        // Its list of models is public (openrouter.ai/docs/api-reference/limits).
        ProviderKind::OpenRouter => get("/key"),
        // So are theirs, or they have none: who is let in is told that the request is empty.
        ProviderKind::Perplexity | ProviderKind::HuggingFace => post("/chat/completions"),
        ProviderKind::Voyage => post("/embeddings"),
        _ => match provider.kind.dialect() {
            Some(ProviderDialect::Anthropic) => get("/v1/models?limit=1"),
            Some(ProviderDialect::Gemini) if ["/v1beta", "/v1", "/v1alpha"].iter().any(|v| base.ends_with(v)) => {
                get("/models?pageSize=1")
            }
            Some(ProviderDialect::Gemini) => get("/v1beta/models?pageSize=1"),
            Some(ProviderDialect::Cohere) => get("/v1/models?page_size=1"),
            _ => get("/models"),
        },
    }
}

fn headers(
    provider: &Provider,
    (key, path): (&Secret<String>, &PathAndQuery),
    asks: bool,
) -> Result<HeaderMap, Trouble> {
    let odd = || Trouble::new("the key holds what cannot be sent", "set it again, without spaces and line ends");
    let mut headers = HeaderMap::new();
    for (name, value) in &provider.headers {
        if let (FieldValue::Text(text), Ok(name)) = (value, HeaderName::from_bytes(name.as_bytes()))
            && let Ok(value) = HeaderValue::from_str(text.as_str())
        {
            headers.insert(name, value);
        }
    }
    let (name, prefix) = match (provider.kind, provider.kind.dialect()) {
        (ProviderKind::Azure, _) => (HeaderName::from_static("api-key"), ""),
        (ProviderKind::Portkey, _) => (HeaderName::from_static("x-portkey-api-key"), ""),
        (ProviderKind::ApiPark, _) => (header::AUTHORIZATION, ""),
        (_, Some(ProviderDialect::Gemini)) if !path.path().contains("/openai/") => {
            (HeaderName::from_static("x-goog-api-key"), "")
        }
        (_, Some(ProviderDialect::Anthropic)) => {
            headers.insert(HeaderName::from_static("anthropic-version"), ANTHROPIC_VERSION);
            (HeaderName::from_static("x-api-key"), "")
        }
        _ => (header::AUTHORIZATION, "Bearer "),
    };
    let text = Secret::new(format!("{prefix}{}", key.expose()));
    let mut value = HeaderValue::from_str(text.expose()).map_err(|_| odd())?;
    value.set_sensitive(true);
    headers.insert(name, value);
    headers.insert(header::USER_AGENT, USER_AGENT);
    headers.insert(header::ACCEPT, JSON);
    headers.insert(header::ACCEPT_ENCODING, IDENTITY);
    if asks {
        headers.insert(header::CONTENT_TYPE, JSON);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{FakeClock, Timestamp};
    use net::EgressConfig;
    use serde_json::json;
    use testkit::mock::{Answer, Mock};

    async fn probed(mock: &Mock, lines: &str) -> Result<Probed, Trouble> {
        let text = format!("[[provider]]\nname = \"p\"\nallow_private = true\n{}", lines.replace("URL", &mock.url()));
        let config = config::parse(&text).unwrap_or_else(|faults| panic!("{faults:?}"));
        let key = Secret::new("fake-new-key".to_owned());
        let trial = Trial { provider: &config.providers[0], key: Some(&key), session_token: None };
        let clock = FakeClock::at(Timestamp::from_secs(1_700_000_000));
        probe_key(trial, &Egress::new(EgressConfig::default()).unwrap(), &clock).await
    }

    const KEY: &str = "api_key = { env = \"X\" }\n";

    #[tokio::test]
    async fn each_kind_is_asked_for_what_costs_nothing_with_the_key_as_it_takes_it() {
        let cases = [
            ("openai", "URL/v1", "GET", "/v1/models", "authorization", "Bearer fake-new-key"),
            ("anthropic", "URL", "GET", "/v1/models?limit=1", "x-api-key", "fake-new-key"),
            ("gemini", "URL/v1beta", "GET", "/v1beta/models?pageSize=1", "x-goog-api-key", "fake-new-key"),
            ("cohere", "URL", "GET", "/v1/models?page_size=1", "authorization", "Bearer fake-new-key"),
            ("azure", "URL", "GET", "/openai/v1/models", "api-key", "fake-new-key"),
            ("openrouter", "URL/api/v1", "GET", "/api/v1/key", "authorization", "Bearer fake-new-key"),
            ("perplexity", "URL", "POST", "/chat/completions", "authorization", "Bearer fake-new-key"),
            ("portkey", "URL/v1", "GET", "/v1/models", "x-portkey-api-key", "fake-new-key"),
        ];
        for (kind, base, method, path, field, value) in cases {
            let mock = Mock::start().await;
            mock.push(Answer::json(200, &json!({"data": []})));
            let lines = format!("kind = \"{kind}\"\nbase_url = \"{base}\"\n{KEY}");
            assert_eq!(probed(&mock, &lines).await, Ok(Probed::Accepted), "{kind}");
            let asked = mock.request(0).await;
            assert_eq!(
                (asked.method.as_str(), asked.target.as_str(), asked.header(field)),
                (method, path, Some(value)),
                "{kind}"
            );
        }
    }

    #[tokio::test]
    async fn a_key_that_is_refused_or_cannot_be_asked_about_is_told_apart_from_one_that_is_known() {
        let mock = Mock::start().await;
        let openai = format!("kind = \"openai\"\nbase_url = \"URL/v1\"\n{KEY}");
        let error = |code: &str| json!({"error": {"message": "fake-new-key", "code": code, "type": "x"}});
        for (status, code, known) in [
            (401, "invalid_api_key", Err(true)),
            (403, "invalid_api_key", Err(true)),
            (403, "insufficient_permissions", Ok(Probed::Known(403))),
            (429, "rate_limit_exceeded", Ok(Probed::Known(429))),
            (404, "x", Err(false)),
            (500, "x", Err(false)),
        ] {
            mock.push(Answer::json(status, &error(code)));
            let found = probed(&mock, &openai).await;
            if let Err(trouble) = &found {
                assert!(!trouble.seen.contains("fake-new-key"), "{trouble:?}");
            }
            assert_eq!(found.map_err(|trouble| trouble.refused), known, "{status} {code}");
        }
        mock.push(Answer::nothing());
        assert_eq!(probed(&mock, &openai).await.map_err(|trouble| trouble.refused), Err(false));
        mock.push(Answer::json(400, &json!({"error": {"message": "no messages"}})));
        let perplexity = format!("kind = \"perplexity\"\nbase_url = \"URL\"\n{KEY}");
        assert_eq!(probed(&mock, &perplexity).await, Ok(Probed::Accepted));
    }
}
