//! `[[upstream]]`: any other HTTP API behind the same checks, with its own key injected, and with the runtime secrets that a
//! request names in the places of their placeholders.

use std::collections::VecDeque;
use std::sync::Arc;

use base::Problem;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use net::UpstreamBody;
use policy::{Ask, Target};

use super::{Answered, Asked};
use crate::Reservation;
use crate::authorize;
use crate::budget::{Place, Quote};
use crate::edge;
use crate::problem::Refusal;
use crate::recorded::Recorded;
use crate::relay::{Answer, Content, Opaque};
use crate::settle::{Leg, Receipt};
use crate::snapshot::{Inject, Upstream};
use crate::upstream::echo::{self, Echoes, Searched};
use crate::upstream::placeholder::{self, Placeholders};
use crate::upstream::{self, Call, CredentialError, UpstreamError};

/// Answer a request to a reverse-proxied API.
pub(crate) async fn answer(asked: Asked<'_>, to: &Upstream, rest: &str, receipt: &mut Receipt) -> Answered {
    let ask = Ask { inspected: false, ..Ask::new(Target::Upstream(to.name.as_str()), receipt.at()) };
    let permit = authorize::permit(asked.snapshot, receipt.caller(), &ask)?;
    receipt.permitted(permit.policy());
    let mut headers = edge::forwardable(&asked.head.headers);
    let query = asked.head.uri.query();
    // What lives as long as the placeholders do must not be the receipt, which changes.
    let caller = receipt.caller().clone();
    let found = placeholder::find((&to.secrets, &to.origin), (&headers, query), &caller, receipt.at());
    let placeholders = found.map_err(|error| Refusal::from(error.problem()).reason(error.reason()))?;
    receipt.opens(placeholders.as_ref().map(|named| named.names(&to.origin)).unwrap_or_default());
    let admitted = receipt.admit(permit).await?;
    let place = Place { upstream: Some(Arc::from(to.name.as_str())), ..Place::default() };
    let reservation = receipt.reserve(admitted, |_| vec![Quote::fixed(to.price, place)]).await?;
    if to.inject.is_some() || placeholders.is_some() {
        // An API that is called with a key of ours is somebody else's: what an app says of its own user is not for it.
        asked.snapshot.user_tokens.values().for_each(|name| drop(headers.remove(name)));
    }
    to.request_path(rest, query).ok_or_else(bad_path)?;
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static("vouchgate"));
    let method = asked.head.method.clone();
    let mut leg = receipt.leg();
    leg.put_in(&reservation).await.map_err(|error| error.problem())?;
    let recorded = leg.recorded(&to.label).await.map_err(|error| error.problem())?;
    let asking = Asking { to, method, rest, query, headers, body: asked.body };
    let sent = asking.answered((&reservation, &mut leg, recorded), placeholders).await;
    receipt.takes(leg);
    let (response, echoes) = sent?;
    let answer = match echoes {
        None => passed_on(to, response),
        Some(echoes) => searched(to, response, echoes).await?,
    };
    Ok((answer, Some(reservation)))
}

/// What is asked of the API, but for the keys.
struct Asking<'a> {
    to: &'a Upstream,
    method: Method,
    rest: &'a str,
    query: Option<&'a str>,
    headers: HeaderMap,
    body: Bytes,
}

/// An answer, and what must not be in it.
type Told = (Response<UpstreamBody>, Option<Echoes>);
/// Paid for, recorded.
type Leave<'a> = (&'a Reservation, &'a mut Leg, Recorded);

impl Asking<'_> {
    /// Ask; where the API refuses a key of ours and another value of it stands by, once more with that.
    async fn answered(
        &self,
        (reservation, leg, recorded): Leave<'_>,
        placeholders: Option<Placeholders<'_>>,
    ) -> Result<Told, Problem> {
        let to = self.to;
        let used = to.inject.as_ref().map_or(0, Inject::chosen);
        let secrets = placeholders.as_ref();
        let mut told = self.once((reservation, &mut *leg, recorded), (used, secrets)).await?;
        let other = to.inject.as_ref().and_then(|inject| Some((inject, inject.other(used)?)));
        let standing_by = secrets.and_then(|secrets| Some((secrets, secrets.standing_by(&to.origin)?)));
        if other.is_none() && standing_by.is_none() {
            return Ok(told);
        }
        if !refuses(&mut told).await? {
            if let Some((inject, _)) = &other {
                inject.values.accepted(used);
            }
            if let Some((secrets, _)) = &standing_by {
                secrets.accepted();
            }
            return Ok(told);
        }
        if let Some((inject, instead)) = other {
            told = self.once((reservation, &mut *leg, recorded), (instead, secrets)).await?;
            if !refuses(&mut told).await? {
                inject.values.fell_back((used, instead));
                return Ok(told);
            }
        }
        if let Some((secrets, instead)) = standing_by {
            told = self.once((reservation, leg, recorded), (used, Some(&instead))).await?;
            if !refuses(&mut told).await? {
                secrets.refused(&instead);
            }
        }
        Ok(told)
    }

    /// Ask once, with this value of what is injected and these of what the request names.
    async fn once(
        &self,
        (reservation, leg, recorded): Leave<'_>,
        (value, placeholders): (usize, Option<&Placeholders<'_>>),
    ) -> Result<Told, Problem> {
        let (to, mut headers, mut echoes) = (self.to, self.headers.clone(), None);
        let path = match placeholders {
            None => to.request_path(self.rest, self.query),
            Some(placeholders) => {
                let filled = placeholders.fill(recorded, &to.origin, (&mut headers, self.query)).map_err(unusable)?;
                searchable(&mut headers);
                echoes = Some(Echoes::of(&filled.values));
                to.request_path(self.rest, filled.query.as_ref().map(|query| query.expose().as_str()))
            }
        };
        let path = path.ok_or_else(bad_path)?;
        let inject = match &to.inject {
            None => None,
            Some(inject) => Some((inject, inject.value(value).ok_or(CredentialError::Missing).map_err(unusable)?)),
        };
        let part = (self.method.clone(), &path);
        let request = upstream::proxied_request((inject, recorded), &to.origin, part, (headers, self.body.clone()));
        let request = request.map_err(unusable)?;
        let call = Call { target: &to.target, label: &to.label, deadlines: to.deadlines, request, upgrade: None };
        let response = upstream::send(reservation, leg, call).await.map_err(|error| error.problem())?;
        Ok((response, echoes))
    }
}

/// Whether the API says that it does not accept a key.
async fn refuses((response, _): &mut Told) -> Result<bool, Problem> {
    upstream::key_refused(response).await.map_err(|error| error.problem())
}

/// An answer as it is.
fn passed_on(to: &Upstream, response: Response<UpstreamBody>) -> Answer {
    let (head, body) = response.into_parts();
    let pipe = Opaque::new(upstream::is_event_stream(&head.headers));
    let headers = returned(to, &head.headers);
    Answer { status: head.status, headers, content: Content::Stream(VecDeque::new(), body, Box::new(pipe)) }
}

/// An answer in which what was sent is looked for, and that ends where it is found.
async fn searched(to: &Upstream, response: Response<UpstreamBody>, echoes: Echoes) -> Result<Answer, Problem> {
    let (head, mut body) = response.into_parts();
    if upstream::is_encoded(&head.headers) {
        return Err(UpstreamError::Encoding.problem());
    }
    let streamed = upstream::is_event_stream(&head.headers);
    let mut ready = VecDeque::new();
    if !streamed {
        // Most answers are one piece: then the caller is told what is wrong, and no connection has to break.
        let first = upstream::first_piece(&mut body).await.map_err(|error| error.problem())?;
        if first.as_ref().is_some_and(|first| echoes.are_in(first)) {
            return Err(echo::problem());
        }
        ready.extend(first);
    }
    let mut headers = returned(to, &head.headers);
    echoes.strip(&mut headers);
    let pipe = Box::new(Searched::new(Opaque::new(streamed), echoes));
    Ok(Answer { status: head.status, headers, content: Content::Stream(ready, body, pipe) })
}

/// Ask for an answer in one piece that can be read.
fn searchable(headers: &mut HeaderMap) {
    for part in [header::RANGE, header::IF_RANGE] {
        headers.remove(part);
    }
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

fn returned(to: &Upstream, headers: &HeaderMap) -> HeaderMap {
    let mut returned = edge::returnable(headers);
    if let Some(location) = headers.get(header::LOCATION).and_then(|location| to.location_here(location)) {
        returned.insert(header::LOCATION, location);
    }
    returned
}

fn bad_path() -> Problem {
    Problem::client(StatusCode::BAD_REQUEST, "path_invalid", "This path or query cannot be sent on.")
}

fn unusable(error: CredentialError) -> Problem {
    UpstreamError::from(error).problem()
}
