//! What requests there were, and what they cost.

use http::Method;

use super::{Operation, READERS, WRITERS, operation};
use crate::admin::handlers;

const RECORDS: &[&str] = &[
    "limit",
    "cursor",
    "since",
    "until",
    "request_id",
    "client",
    "subject",
    "api_key",
    "model",
    "provider",
    "policy",
    "error",
    "min_status",
    "format",
];
const USAGE: &[&str] = &[
    "by", "bucket", "since", "until", "limit", "cursor", "client", "subject", "api_key", "model", "provider", "policy",
    "service", "tag", "issuer", "format",
];

pub(super) fn operations() -> [Operation; 4] {
    let mut list =
        operation(Method::GET, "/admin/v1/usage", "listUsage", READERS, |call| Box::pin(handlers::usage::list(call)))
            .summary("Sum up what requests took and cost, by what is asked for, the dearest first; as JSON or CSV")
            .one("UsageList");
    list.query = USAGE;
    let rerate = operation(Method::POST, "/admin/v1/usage/rerate", "rerateUsage", WRITERS, |call| {
        Box::pin(handlers::usage::rerate(call))
    })
    .summary("Compute costs anew by the prices in force, as corrections beside what was charged; a part at a time")
    .takes("RerateUsage")
    .one("RerateView");
    let mut requests = operation(Method::GET, "/admin/v1/requests", "listRequests", READERS, |call| {
        Box::pin(handlers::usage::requests(call))
    })
    .summary("List what requests there were, newest first: who, what, when, with what outcome and cost; never contents")
    .page("RequestView");
    requests.query = RECORDS;
    let request = operation(Method::GET, "/admin/v1/requests/{name}", "getRequest", READERS, |call| {
        Box::pin(handlers::usage::request(call))
    })
    .summary("Get the record of one request, by what its `x-request-id` said; never contents")
    .one("RequestView");
    [list, rerate, requests, request]
}
