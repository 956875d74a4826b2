//! `GET /v1/realtime`: OpenAI's Realtime API over a WebSocket (RFC 6455), with the same token, policy, limits and record as
//! any other request.

mod session;

use base::Problem;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Response, StatusCode, Version};
use llm::RequestError;
use llm::bound::Brought;
use net::UpstreamBody;
use policy::{Ask, Target};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

pub(crate) use self::session::Session;

use super::attempts::{self, Exchange, Failed, Prepared};
use super::within::Makes;
use super::{Answered, Asked};
use crate::Reservation;
use crate::authorize;
use crate::budget::{Load, Tokens};
use crate::problem::Refusal;
use crate::relay::{Answer, Content};
use crate::route;
use crate::settle::{Leg, Outcome, Receipt};
use crate::snapshot::Provider;
use crate::upstream::{self, UpstreamError};

/// The one subprotocol there is. Others that OpenAI's browser client offers hold a key.
const SUBPROTOCOL: &str = "realtime";

/// Open a session.
pub(crate) async fn answer(asked: Asked<'_>, receipt: &mut Receipt) -> Answered {
    let headers = &asked.head.headers;
    let accept = handshake(asked.head.version, headers)?;
    let model = model(asked.head.uri.query())?;
    let permit = authorize::permit(asked.snapshot, receipt.caller(), &Ask::new(Target::Model(&model), receipt.at()))?;
    receipt.permitted(permit.policy());
    let admitted = receipt.admit(permit).await?;
    let plan = route::plan(asked.snapshot, admitted.permit(), &model).map_err(|unknown| unknown.problem())?;
    receipt.model(&model, plan.label());
    let opening = Opening { headers, model: &model, subprotocol: offers(headers), limits: &asked.snapshot.limits };
    let (mut answer, reservation) = attempts::run(&opening, &plan, admitted, receipt).await?;
    if answer.status == StatusCode::SWITCHING_PROTOCOLS {
        answer.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        answer.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        answer.headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    Ok((answer, Some(reservation)))
}

/// Check that a WebSocket is asked for (RFC 6455 section 4.2.1). Gives what answers the client's key.
fn handshake(version: Version, headers: &HeaderMap) -> Result<HeaderValue, Refusal> {
    let lists = |name: HeaderName, wanted: &str| {
        let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|item| item.trim().eq_ignore_ascii_case(wanted))
    };
    let asks = version == Version::HTTP_11
        && lists(header::CONNECTION, "upgrade")
        && lists(header::UPGRADE, "websocket")
        && one(headers, &header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    if !asks {
        let message = "Ask for a WebSocket: HTTP/1.1, `Upgrade: websocket`, `Sec-WebSocket-Version: 13`.";
        let problem = Problem::client(StatusCode::UPGRADE_REQUIRED, "upgrade_required", message);
        return Err(Refusal::from(problem)
            .header(header::UPGRADE, HeaderValue::from_static("websocket"))
            .header(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")));
    }
    let sixteen_bytes = |key: &&str| {
        let text = key.strip_suffix("==").unwrap_or_default();
        text.len() == 22 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
    };
    let key = one(headers, &header::SEC_WEBSOCKET_KEY).filter(sixteen_bytes);
    let accept = key.and_then(|key| HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok());
    let wrong =
        || Problem::client(StatusCode::BAD_REQUEST, "invalid_request", "Send one Sec-WebSocket-Key of 16 bytes.");
    Ok(accept.ok_or_else(wrong)?)
}

/// The one value of a field.
fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(first)
}

/// Whether the client offers the one subprotocol there is.
fn offers(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|offered| offered.trim() == SUBPROTOCOL)
}

/// The model asked for. A parameter nobody here knows could mean another one, or somebody else's call.
fn model(query: Option<&str>) -> Result<String, Refusal> {
    let wrong = |message: &str| {
        Refusal::from(Problem::client(StatusCode::BAD_REQUEST, "invalid_request", message.to_owned()).param("model"))
    };
    let mut model = None;
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if name != "model" || model.is_some() {
            return Err(wrong("The query holds one `model` and nothing else."));
        }
        model = Some(value.into_owned());
    }
    model.filter(|model| !model.is_empty()).ok_or_else(|| wrong("Name the model: `/v1/realtime?model=...`."))
}

/// A session to be opened at any of several targets.
struct Opening<'a> {
    headers: &'a HeaderMap,
    model: &'a str,
    subprotocol: bool,
    limits: &'a crate::snapshot::Limits,
}

/// What was asked of a target.
struct Sent {
    /// What answers our key.
    accept: String,
    /// The model as its provider calls it.
    model: String,
    bound: Option<u64>,
}

impl Exchange for Opening<'_> {
    type Sent = Sent;

    fn streams(&self) -> bool {
        true
    }

    fn makes(&self, _: &Sent) -> Option<Makes> {
        None
    }

    fn head(&self) -> &HeaderMap {
        self.headers
    }

    /// One answer, which may read all that fits; the next is held for when it is over.
    fn load(&self) -> Load {
        let brought = Some(Brought { factor: 1, ..Brought::default() });
        Load::Tokens(Tokens { brought, generates: true, asked: None, answers: 1, unbounded: false, session: true })
    }

    fn prepare(
        &self,
        provider: &Provider,
        model: &str,
        reservation: &Reservation,
    ) -> Result<Prepared<Sent>, RequestError> {
        let missing = RequestError::Unsupported { param: "model".to_owned(), why: "its provider has no realtime API" };
        let path: PathAndQuery = provider.realtime(model).ok_or(missing)?;
        let key = generate_key();
        let accept = derive_accept_key(key.as_bytes());
        let mut fields = HeaderMap::with_capacity(4);
        fields.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        fields.extend(HeaderValue::try_from(key).ok().map(|key| (header::SEC_WEBSOCKET_KEY, key)));
        if self.subprotocol {
            fields.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        }
        let sent = Sent {
            accept,
            model: model.to_owned(),
            bound: reservation.max_output_tokens(provider.name.as_str(), model),
        };
        Ok(Prepared { path, content: upstream::Content::websocket(fields), sent })
    }

    fn echo(&self, _: &Reservation, _: &mut Receipt) -> Result<Answer, Failed> {
        Err(Failed::Request(RequestError::Unsupported {
            param: "model".to_owned(),
            why: "the built-in model has no realtime API",
        }))
    }

    async fn finish(&self, response: Response<UpstreamBody>, sent: Sent, _: &mut Leg) -> Result<Answer, Failed> {
        let (head, body) = response.into_parts();
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            if head.status.is_success() {
                return Err(UpstreamError::Kind.into());
            }
            let headers = upstream::returned(&head.headers);
            let bytes = upstream::read(None, body, self.limits.response_body).await?;
            return Ok(Answer { status: head.status, headers, content: Content::Whole(bytes, Outcome::ProviderError) });
        }
        let accepted = one(&head.headers, &header::SEC_WEBSOCKET_ACCEPT) == Some(sent.accept.as_str());
        let chosen = one(&head.headers, &header::SEC_WEBSOCKET_PROTOCOL);
        let agreed = chosen.is_none_or(|chosen| self.subprotocol && chosen == SUBPROTOCOL);
        // Extensions are never offered, so that none can be agreed on.
        let plain = !head.headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS);
        let tunnel = body.into_tunnel().filter(|_| accepted && agreed && plain).ok_or(UpstreamError::Kind)?;
        let mut headers = HeaderMap::with_capacity(8);
        if chosen.is_some() {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        }
        let beta = self.headers.contains_key("openai-beta");
        let session = Session::new(tunnel, (self.model, sent.model), (sent.bound, beta), self.limits);
        Ok(Answer { status: StatusCode::SWITCHING_PROTOCOLS, headers, content: Content::Session(Box::new(session)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    const ASKING: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn a_handshake_is_answered_as_the_rfc_shows_it() {
        // RFC 6455 section 1.3.
        let accept = handshake(Version::HTTP_11, &headers(&ASKING)).expect("a handshake");
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn what_is_no_handshake_is_told_what_is() {
        for left_out in 0..3 {
            let pairs: Vec<_> =
                ASKING.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, pair)| *pair).collect();
            let refusal = handshake(Version::HTTP_11, &headers(&pairs)).unwrap_err();
            assert_eq!(refusal.problem().status, StatusCode::UPGRADE_REQUIRED);
        }
        assert!(handshake(Version::HTTP_2, &headers(&ASKING)).is_err());
        assert!(handshake(Version::HTTP_10, &headers(&ASKING)).is_err());
        for key in ["", "AA==", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZ!==", "dGhlIHNhbXBsZSBub25jZTEyMw=="] {
            let mut headers = headers(&ASKING);
            headers.insert("sec-websocket-key", HeaderValue::from_static(key));
            let refusal = handshake(Version::HTTP_11, &headers).unwrap_err();
            assert_eq!(refusal.problem().status, StatusCode::BAD_REQUEST, "{key}");
        }
        let mut twice = headers(&ASKING);
        twice.append("sec-websocket-key", HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        assert!(handshake(Version::HTTP_11, &twice).is_err());
    }

    #[test]
    fn the_query_names_one_model_and_nothing_else() {
        assert_eq!(model(Some("model=openai%2Fgpt-realtime")).expect("model"), "openai/gpt-realtime");
        for query in [None, Some(""), Some("model="), Some("model=a&model=b"), Some("model=a&call_id=x"), Some("x=y")] {
            assert!(model(query).is_err(), "{query:?}");
        }
    }

    #[test]
    fn only_the_known_subprotocol_is_taken_up() {
        assert!(offers(&headers(&[("sec-websocket-protocol", "realtime, openai-insecure-api-key.x")])));
        assert!(!offers(&headers(&[("sec-websocket-protocol", "openai-insecure-api-key.x")])));
        assert!(!offers(&HeaderMap::new()));
    }
}
