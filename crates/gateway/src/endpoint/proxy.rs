//! `[[upstream]]`: any other HTTP API behind the same checks, with its own key injected.

use std::collections::VecDeque;
use std::sync::Arc;

use base::Problem;
use http::StatusCode;
use http::header::{self, HeaderValue};
use policy::{Ask, Target};

use super::{Answered, Asked};
use crate::authorize;
use crate::budget::{Place, Quote};
use crate::edge;
use crate::relay::{Answer, Content, Opaque};
use crate::settle::Receipt;
use crate::snapshot::Upstream;
use crate::upstream::{self, Call, UpstreamError};

/// Answer a request to a reverse-proxied API.
pub(crate) async fn answer(asked: Asked<'_>, to: &Upstream, rest: &str, receipt: &mut Receipt) -> Answered {
    let ask = Ask { inspected: false, ..Ask::new(Target::Upstream(to.name.as_str()), receipt.at()) };
    let permit = authorize::permit(asked.snapshot, receipt.caller(), &ask)?;
    receipt.permitted(permit.policy());
    let admitted = receipt.admit(permit).await?;
    let place = Place { upstream: Some(Arc::from(to.name.as_str())), ..Place::default() };
    let reservation = receipt.reserve(admitted, |_| vec![Quote::fixed(to.price, place)]).await?;
    let path = to.request_path(rest, asked.head.uri.query()).ok_or_else(|| {
        Problem::client(StatusCode::BAD_REQUEST, "path_invalid", "This path or query cannot be sent on.")
    })?;
    let mut headers = edge::forwardable(&asked.head.headers);
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static("vouchgate"));
    let method = asked.head.method.clone();
    let mut leg = receipt.leg();
    leg.put_in(&reservation).await.map_err(|error| error.problem())?;
    let recorded = leg.recorded(&to.label).await.map_err(|error| error.problem())?;
    let inject = (to.inject.as_ref(), recorded);
    let request = upstream::proxied_request(inject, &to.origin, (method, &path), (headers, asked.body))
        .map_err(|error| UpstreamError::from(error).problem())?;
    let call = Call { target: &to.target, label: &to.label, deadlines: to.deadlines, request, upgrade: None };
    let sent = upstream::send(&reservation, &mut leg, call).await;
    receipt.takes(leg);
    let response = sent.map_err(|error| error.problem())?;
    let (head, body) = response.into_parts();
    let mut returned = edge::returnable(&head.headers);
    if let Some(location) = head.headers.get(header::LOCATION).and_then(|location| to.location_here(location)) {
        returned.insert(header::LOCATION, location);
    }
    let content =
        Content::Stream(VecDeque::new(), body, Box::new(Opaque::new(upstream::is_event_stream(&head.headers))));
    Ok((Answer { status: head.status, headers: returned, content }, Some(reservation)))
}
